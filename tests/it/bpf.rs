//! The kernel side that is embedded was compiled from the sources that stand beside it.

use crate::act::Run;
use std::collections::BTreeSet;
use std::path::Path;

/// A source that is changed, added or taken away asks for `bpf/build.sh` to be run again.
#[test]
fn the_committed_object_was_made_of_these_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bpf");
    Run::program("sha256sum", ["--check", "--strict", "--quiet", "dist/sha256"]).within(&folder).done().ok();
    let recorded = std::fs::read_to_string(folder.join("dist/sha256")).unwrap();
    let recorded: BTreeSet<String> = recorded.lines().map(|line| line.split("  ").nth(1).unwrap().to_owned()).collect();
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let found: BTreeSet<String> = files.map(|path| path.file_name().unwrap().display().to_string()).collect();
    let (objects, sources): (BTreeSet<_>, BTreeSet<_>) = recorded.into_iter().partition(|name| name.ends_with(".o"));
    assert_eq!(sources, found);
    assert!(objects.contains("dist/files.bpf.o"), "{objects:?}");
}
