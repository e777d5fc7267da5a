//! The cgroup that a number stands for: the kernel names a socket's cgroup by the inode of its folder.
//!
//! Source: `cgroup_id()` in `include/linux/cgroup.h`; proc(5) on `mountinfo`.

use crate::sample::procfs::ProcFs;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders that are looked at for their numbers at most: ten times what a full Kubernetes node has.
const CGROUPS_MAX: usize = 50_000;

/// Paths of cgroups by number, read when first needed.
#[derive(Debug)]
pub(in crate::sample) struct CgroupPaths {
    /// Where the unified hierarchy is mounted; `None` where it isn't.
    mount: Option<PathBuf>,
    /// `None` for a number that no folder has: of a cgroup that was removed, or is outside our view.
    paths: HashMap<u64, Option<Arc<str>>>,
}

impl CgroupPaths {
    /// Of the hierarchy that the mounts under `proc` show.
    pub(in crate::sample) fn new(proc: &ProcFs) -> Self {
        let mounts = fs::read_to_string(proc.root().join("self/mountinfo")).unwrap_or_default();
        CgroupPaths { mount: mounts.lines().find_map(unified_mount), paths: HashMap::new() }
    }

    /// The path of a cgroup, from the root of the hierarchy as we see it, which is `/`.
    pub(in crate::sample) fn path(&mut self, id: u64) -> Option<Arc<str>> {
        if !self.paths.contains_key(&id) {
            // Those that no folder had, and none will have: numbers are not used again.
            let mut removed = std::mem::take(&mut self.paths);
            removed.retain(|_, path| path.is_none());
            self.paths = self.mount.as_deref().map(walk).unwrap_or_default();
            for id in removed.into_keys().take(CGROUPS_MAX).chain([id]) {
                self.paths.entry(id).or_insert(None);
            }
        }
        self.paths.get(&id).cloned().flatten()
    }

    /// The number of the cgroup at a path of `/proc/PID/cgroup`.
    pub(super) fn id(&self, path: &str) -> Option<u64> {
        let mount = self.mount.as_deref()?;
        // Out of our namespace there is no folder to ask.
        let inside = path.strip_prefix('/').filter(|inside| !inside.starts_with(".."))?;
        Some(fs::metadata(mount.join(inside)).ok()?.ino())
    }
}

/// The place of a line of `mountinfo` that mounts the unified hierarchy:
/// `42 32 0:38 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw`.
fn unified_mount(line: &str) -> Option<PathBuf> {
    let (mount, file_system) = line.split_once(" - ")?;
    let place = mount.split(' ').nth(4)?;
    (file_system.split(' ').next() == Some("cgroup2")).then(|| PathBuf::from(place))
}

/// Every cgroup under a mount, by number.
fn walk(mount: &Path) -> HashMap<u64, Option<Arc<str>>> {
    let mut found = HashMap::new();
    if let Ok(root) = fs::metadata(mount) {
        found.insert(root.ino(), Some(Arc::from("/")));
    }
    let mut folders = vec![mount.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if found.len() >= CGROUPS_MAX {
                return found;
            }
            if entry.file_type().is_ok_and(|it| it.is_dir()) {
                let path = entry.path();
                let inside = path.strip_prefix(mount).unwrap_or(&path);
                found.insert(entry.ino(), Some(format!("/{}", inside.display()).into()));
                folders.push(path);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_found_by_number_and_its_number_by_path() {
        let scratch = tempfile::tempdir().expect("a folder");
        let mount = scratch.path().join("unified");
        fs::create_dir_all(mount.join("a.slice/b.service")).expect("made");
        fs::create_dir_all(scratch.path().join("proc/self")).expect("made");
        let lines = format!(
            "30 1 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n31 1 0:27 / {} rw,nosuid shared:9 - cgroup2 cgroup2 rw\n",
            mount.display()
        );
        fs::write(scratch.path().join("proc/self/mountinfo"), lines).expect("written");
        let mut paths = CgroupPaths::new(&ProcFs::at(scratch.path().join("proc")));
        for path in ["/", "/a.slice", "/a.slice/b.service"] {
            let id = paths.id(path).expect("is there");
            assert_eq!(paths.path(id).as_deref(), Some(path));
        }
        assert_eq!((paths.id("/../c"), paths.id("/c"), paths.path(0)), (None, None, None));
        fs::create_dir(mount.join("c")).expect("made");
        let id = paths.id("/c").expect("is there");
        assert_eq!(paths.path(id).as_deref(), Some("/c"), "a new one is looked for");
    }

    #[test]
    fn without_the_hierarchy_nothing_is_known() {
        let scratch = tempfile::tempdir().expect("a folder");
        let mut paths = CgroupPaths::new(&ProcFs::at(scratch.path().to_owned()));
        assert_eq!((paths.path(1), paths.id("/")), (None, None));
    }
}
