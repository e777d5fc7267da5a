//! `view`: the same as a page in the browser, one offline file.

use super::args::ViewArgs;
use super::error::{Failure, exit};
use super::{frames, talk};
use crate::present::page::{self, PageSeries};
use crate::present::replay::Replay;
use crate::store::input::InputOptions;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `unclosed view`.
pub(crate) fn run(typed: &ViewArgs) -> Result<u8, Failure> {
    let rules = frames::rules(&typed.rules)?;
    let replay = Replay::open_by_rules(&typed.file, InputOptions { lsof_header: typed.log.lsof_header }, rules)?;
    if let Some(path) = &typed.html {
        write_page(&replay, &typed.file, path)?;
        talk(&format!("Wrote {}: one file, opens offline.", path.display()));
        return Ok(exit::FINE);
    }
    let path = write_somewhere(&replay, &typed.file)?;
    writeln!(io::stdout(), "{}", path.display())?;
    if !typed.no_open && !open_browser(&path) {
        talk("There is no desktop to open it on: copy it to one, or open the path above in a browser.");
    }
    Ok(exit::FINE)
}

/// Writes the page of `file` to `path`. What was there stays until the page is whole.
pub(crate) fn write_page(replay: &Replay, file: &Path, path: &Path) -> Result<(), Failure> {
    if is_part_of(file, path) {
        let message = format!("the page would overwrite what it is made of: {}", path.display());
        return Err(Failure::usage(message).hint("give the page a name of its own: --html page.html"));
    }
    if is_recording(path) {
        let message = format!("{} is a recording: a page would take its place", path.display());
        return Err(Failure::usage(message).hint("give the page a name of its own: --html page.html"));
    }
    let failed = |error: io::Error| {
        let folder = folder_of(path).display();
        Failure::new(format!("cannot write the page {}: {error}", path.display()))
            .hint(format!("ls -ld {folder} and df -h {folder} show why; --html OUT writes elsewhere"))
    };
    let important = page::most_important(&replay.report);
    let samples = replay.all_points(&important.iter().map(|it| it.series.key).collect::<Vec<_>>())?;
    let limits = &replay.report.limits;
    let series: Vec<PageSeries> = (important.iter().zip(&samples))
        .map(|(judged, points)| PageSeries {
            series: &judged.series,
            points,
            limits: limits.iter().filter(|limit| limit.series == judged.series.name).collect(),
            verdict: &judged.verdict,
        })
        .collect();
    let write = |out: &mut File| page::write(out, &replay.report, &series);
    if is_stream(path) {
        return OpenOptions::new().write(true).open(path).and_then(|mut out| write(&mut out)).map_err(failed);
    }
    replace(path, write).map_err(failed)
}

/// True where `path` is the recording `file`, by whatever name, or a part of it that SQLite keeps beside it.
fn is_part_of(file: &Path, path: &Path) -> bool {
    let identity = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        found.is_file().then(|| (found.dev(), found.ino()))
    };
    let Some(there) = identity(path) else { return false };
    ["", "-wal", "-shm"].iter().any(|ending| {
        let mut part = file.as_os_str().to_owned();
        part.push(ending);
        identity(Path::new(&part)) == Some(there)
    })
}

/// True of an SQLite file, as recordings are.
fn is_recording(path: &Path) -> bool {
    if is_stream(path) || !path.is_file() {
        return false;
    }
    let mut begin = [0u8; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == *b"SQLite format 3\0"
}

/// True of a pipe or a device, which is written to and not replaced; `/dev/stdout` is so too where it is a file.
fn is_stream(path: &Path) -> bool {
    ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"].iter().any(|stream| path.starts_with(stream))
        || fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Writes a new file beside `path`, which takes that name once it is whole. Only its owner may read it, as with a
/// recording: the same addresses and command lines are in it. A link of that name is replaced, not followed.
fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    // Random, by keys that the system draws: nobody can have put anything there.
    let new = folder_of(path).join(format!(".unclosed-{:016x}", RandomState::new().hash_one(0)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let done = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, path));
    if done.is_err() {
        let _ = fs::remove_file(&new);
    }
    done
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes the page into the folder we are in, as the recipe's plotly call did, or among the temporary files where that
/// can't be written.
fn write_somewhere(replay: &Replay, file: &Path) -> Result<PathBuf, Failure> {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = format!("{stem}.unclosed.html");
    let here = free_name(std::env::current_dir().unwrap_or_default().join(&name));
    match write_page(replay, file, &here) {
        Ok(()) => Ok(here),
        Err(_) => {
            let there = free_name(std::env::temp_dir().join(&name));
            write_page(replay, file, &there)?;
            Ok(there)
        }
    }
}

/// The name that is wished for a page nobody gave a name, or with a number where something else than an earlier page of
/// ours has it.
pub(crate) fn free_name(wish: PathBuf) -> PathBuf {
    let stem = wish.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let numbered = (2..).map(|number| wish.with_file_name(format!("{stem}-{number}.html")));
    [wish.clone()].into_iter().chain(numbered).find(|name| is_free(name)).unwrap_or(wish)
}

fn is_free(path: &Path) -> bool {
    let is_page = || {
        let mut head = Vec::new();
        let read = File::open(path).and_then(|file| file.take(page::HEAD_LENGTH).read_to_end(&mut head));
        read.is_ok() && page::is_page(&head)
    };
    match fs::symlink_metadata(path) {
        Ok(found) => found.is_file() && found.uid() == rustix::process::geteuid().as_raw() && is_page(),
        // What is wrong with the folder is told when it is written to.
        Err(_) => true,
    }
}

/// Opens the desktop's browser; false where there is no desktop.
fn open_browser(path: &Path) -> bool {
    let has_desktop =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|it| !it.is_empty()));
    has_desktop
        && Command::new("xdg-open")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .is_ok()
}
