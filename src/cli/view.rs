//! `view`: the same as a page in the browser, one offline file.

use super::args::ViewArgs;
use super::error::{Failure, exit};
use super::talk;
use crate::present::page::{self, PageSeries};
use crate::present::replay::Replay;
use crate::store::log::LogOptions;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `unclosed view`.
pub(crate) fn run(typed: &ViewArgs) -> Result<u8, Failure> {
    let replay = Replay::open(&typed.file, LogOptions { lsof_header: typed.lsof_header })?;
    if let Some(path) = &typed.html {
        write_page(&replay, path)?;
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

/// Writes the page to `path`; a page that can't be written to its end is taken away again.
pub(crate) fn write_page(replay: &Replay, path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Failure::new(format!("cannot write the page {}: {error}", path.display()))
            .hint(format!("ls -ld {0} and df -h {0} show why; --html OUT writes elsewhere", folder.display()))
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
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    let written = page::write(&mut out, &replay.report, &series).and_then(|()| out.flush());
    written.map_err(|error| {
        let _ = std::fs::remove_file(path);
        failed(error)
    })
}

/// Writes the page into the folder we are in, as the recipe's plotly call did, or among the temporary files where that
/// can't be written.
fn write_somewhere(replay: &Replay, file: &Path) -> Result<PathBuf, Failure> {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = format!("{stem}.unclosed.html");
    let here = std::env::current_dir().unwrap_or_default().join(&name);
    match write_page(replay, &here) {
        Ok(()) => Ok(here),
        Err(_) => {
            let there = std::env::temp_dir().join(&name);
            write_page(replay, &there)?;
            Ok(there)
        }
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
