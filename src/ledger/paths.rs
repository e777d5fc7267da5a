//! Paths of files that are closed by now, from what was asked for when they were opened.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Folders that are remembered; beyond, all are forgotten.
const FOLDERS_MAX: usize = 4_096;

/// Makes whole paths, as the kernel would tell them of what is open.
#[derive(Debug)]
pub(super) struct Paths {
    proc: PathBuf,
    /// The folders of processes without links in them, by what they were asked for as.
    folders: HashMap<(u32, PathBuf), Option<PathBuf>>,
}

impl Paths {
    pub(super) fn new(proc: &Path) -> Self {
        Paths { proc: proc.to_owned(), folders: HashMap::new() }
    }

    /// The whole path of what a process opened as `path`, from the folder behind a descriptor where it is relative. `None` where
    /// that can't be told any more.
    pub(super) fn whole(&mut self, pid: u32, folder: i32, path: &str) -> Option<String> {
        let process = self.proc.join(pid.to_string());
        let begin = if path.starts_with('/') {
            PathBuf::from("/")
        } else if folder == libc::AT_FDCWD {
            fs::read_link(process.join("cwd")).ok()?
        } else {
            fs::read_link(process.join(format!("fd/{folder}"))).ok()?
        };
        let asked = without_dots(&begin.join(path));
        let (parent, name) = (asked.parent()?, asked.file_name()?);
        if self.folders.len() >= FOLDERS_MAX {
            self.folders.clear();
        }
        let known = self.folders.entry((pid, parent.to_owned()));
        let parent = known.or_insert_with(|| without_links(&process, parent)).clone()?;
        parent.join(name).into_os_string().into_string().ok()
    }
}

/// What a folder is without links: only where the process has our own root can that be asked for.
fn without_links(process: &Path, folder: &Path) -> Option<PathBuf> {
    let place = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let is_ours = place(&process.join("root")) == place(Path::new("/"));
    if is_ours { fs::canonicalize(folder).ok() } else { Some(folder.to_owned()) }
}

/// Without `.` and `..`, which lead up from where a path stands.
fn without_dots(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut whole, part| {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                whole.pop();
            }
            part => whole.push(part),
        }
        whole
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_whole_and_leads_through_no_link() {
        let folder = tempfile::tempdir().expect("makes a folder");
        let real = folder.path().canonicalize().expect("is there");
        fs::create_dir(real.join("a")).expect("makes it");
        std::os::unix::fs::symlink(real.join("a"), real.join("b")).expect("links");
        let mut paths = Paths::new(Path::new("/proc"));
        let mut whole = |path: &str| paths.whole(std::process::id(), libc::AT_FDCWD, path);
        let is = |path: &str| Some(real.join(path).display().to_string());
        assert_eq!(whole(&format!("{}/b/../b/./x", real.display())), is("a/x"));
        assert_eq!(whole(&format!("{}/gone/x", real.display())), None);
        let here = std::env::current_dir().expect("is somewhere").canonicalize().expect("is there");
        assert_eq!(whole("Cargo.toml"), Some(here.join("Cargo.toml").display().to_string()));
    }
}
