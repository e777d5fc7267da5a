//! A disk that fills while we watch: watching goes on, one message says so, and once there is room every tick is there.

use crate::act::{Folder, Run, has, is_root, points, shown, skip};
use crate::leakers::Churn;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// A file system of a few megabytes, unmounted when the case ends.
struct SmallDisk {
    _folder: Folder,
    path: PathBuf,
}

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let folder = Folder::new();
        let path = folder.file("disk");
        fs::create_dir(&path).unwrap();
        let place = path.display().to_string();
        let done = Run::program("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", &place]).done();
        if done.code == Some(0) { Ok(SmallDisk { _folder: folder, path }) } else { Err(done.err) }
    }

    /// Leaves not a byte of room.
    fn fill(&self) {
        let mut filler = fs::File::create(self.path.join("filler")).unwrap();
        let page = [1u8; 4096];
        while filler.write_all(&page).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.path.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Run::program("umount", ["-l", &self.path.display().to_string()]).done();
    }
}

#[test]
fn a_full_disk_costs_one_message_and_no_tick() {
    if !is_root() || !has("mount") {
        skip!("only root may mount a small disk");
    }
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(why) => skip!("no small disk: {}", why.trim()),
    };
    let churn = Churn::with("--leak-per-second 20");
    let file = disk.path.join("w.unclosed");
    let mut watch = Run::it(format!("watch -p {} -o csv --every 50ms", churn.pid)).output(&file).start();
    watch.line(",");
    disk.fill();
    watch.complaint("the recording can't be written");
    // Watching goes on, and what is recorded by now can be read.
    for _ in 0..20 {
        watch.line(",");
    }
    let before = shown(&file)["ticks"].as_u64().unwrap();
    disk.make_room();
    watch.complaint("the recording has caught up");
    for _ in 0..3 {
        watch.line(",");
    }
    let done = watch.interrupt().ok();
    let messages = |text: &str| done.err.matches(text).count();
    assert_eq!(messages("the recording can't be written"), 1, "{}", done.err);
    assert_eq!(messages("caught up"), 1, "{}", done.err);
    assert!(done.err.contains("the disk is full") && done.err.contains("df -h"), "{}", done.err);

    let told = points(&done.out);
    let kept = Run::it("show -o csv --series internet").file(&file).done().ok().points();
    assert!(kept.len() as u64 > before + 15, "{} ticks after {before}", kept.len());
    for point in told {
        assert!(kept.contains(&point), "{point:?} was told and is lost");
    }
    let connection = rusqlite::Connection::open(&file).unwrap();
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[test]
fn a_disk_that_stays_full_is_told_at_the_end() {
    if !is_root() || !has("mount") {
        skip!("only root may mount a small disk");
    }
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(why) => skip!("no small disk: {}", why.trim()),
    };
    let churn = Churn::with("--leak-per-second 20");
    let file = disk.path.join("w.unclosed");
    let mut watch = Run::it(format!("watch -p {} -o csv --every 50ms", churn.pid)).output(&file).start();
    watch.line(",");
    disk.fill();
    watch.complaint("the recording can't be written");
    watch.line(",");
    let done = watch.interrupt().code(1).complains(&["ticks are not in the recording"]);
    let kept = Run::it("show -o csv --series internet").file(&file).done().ok().points();
    assert!(!kept.is_empty() && kept.len() < points(&done.out).len());
    // From the first on, without a hole.
    assert_eq!(kept, points(&done.out)[..kept.len()]);
}
