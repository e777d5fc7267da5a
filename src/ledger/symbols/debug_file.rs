//! Debug information that stands in a file of its own: by build id, by `.gnu_debuglink`, and what dwz put aside for several.
//!
//! The rules are gdb's ("Debugging Information in Separate Files"). Each path is looked for in the target's own root first, then in
//! ours, where somebody may have installed what a container's image leaves out.

use super::elf::{self, Elf, Source};
use crate::ledger::process::Process;
use object::Object;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where distributions put them.
const FOLDER: &str = "/usr/lib/debug";

/// The separate debug file of a program or library that is at this path in the target's root.
pub(super) fn find(process: &Process, path: &str, elf: &Elf<'_>) -> Option<Source> {
    let id = elf.build_id().ok().flatten();
    if let Some(source) = id.and_then(|id| open_with(process, &by_build_id(id)?, |found| has_id(found, id))) {
        return Some(source);
    }
    let (name, checksum) = elf.gnu_debuglink().ok().flatten()?;
    let name = Path::new(std::str::from_utf8(name).ok()?);
    let folder = Path::new(path).parent()?;
    let below = Path::new(FOLDER).join(folder.strip_prefix("/").unwrap_or(folder));
    [folder.join(name), folder.join(".debug").join(name), below.join(name)].iter().find_map(|place| {
        // The file itself may bear the name that the link says.
        let is_other = place != Path::new(path);
        let source = is_other.then(|| open_with(process, place, |found| id.is_none_or(|id| has_id(found, id))))??;
        (id.is_some() || crc32(process, place) == Some(checksum)).then_some(source)
    })
}

/// The file that dwz put aside, which the debug information of a file refers to.
pub(super) fn find_common(process: &Process, path: &str, elf: &Elf<'_>) -> Option<Source> {
    let (name, id) = elf.gnu_debugaltlink().ok().flatten()?;
    let name = Path::new(std::str::from_utf8(name).ok()?);
    let beside = Path::new(path).parent().unwrap_or(Path::new("/")).join(name);
    let places = [by_build_id(id), Some(beside)];
    places.into_iter().flatten().find_map(|place| open_with(process, &place, |found| has_id(found, id)))
}

/// `/usr/lib/debug/.build-id/xx/yyyy.debug`.
fn by_build_id(id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Path::new(FOLDER).join(format!(".build-id/{first:02x}/{rest}.debug")))
}

/// Opens a path in the target's root or in ours, where it is what it should be.
fn open_with(process: &Process, path: &Path, is_right: impl Fn(&Elf<'_>) -> bool) -> Option<Source> {
    files(process, path).map(elf::source).find(|source| elf::parse(source).is_some_and(|elf| is_right(&elf)))
}

/// The files at a path, in the target's root and in ours.
fn files(process: &Process, path: &Path) -> impl Iterator<Item = File> {
    let theirs = path.to_str().and_then(|path| process.in_root(path).ok());
    theirs.into_iter().chain(File::open(path).ok())
}

/// True where a file has this build id.
fn has_id(elf: &Elf<'_>, id: &[u8]) -> bool {
    elf.build_id().ok().flatten() == Some(id)
}

/// The checksum that `.gnu_debuglink` holds of a file, asked only of files without a build id.
fn crc32(process: &Process, path: &Path) -> Option<u32> {
    let mut file = files(process, path).next()?;
    let (mut sum, mut piece) = (flate2::Crc::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut piece).ok()? {
            0 => return Some(sum.sum()),
            read => sum.update(&piece[..read]),
        }
    }
}
