//! A recorder that is killed at any moment loses nothing that it has told.
//!
//! `watch -o csv` prints a line when its tick is in the recording: so each line that was printed must be there afterwards.

use crate::act::{Folder, Run, points, until};
use crate::leakers::Churn;
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How many recorders are killed, and how many at a time.
const KILLS: usize = 200;
const AT_A_TIME: usize = 8;

#[test]
fn two_hundred_killed_recorders_lost_nothing_they_had_told() {
    let churn = Churn::with("--healthy-per-second 20 --leak-per-second 5");
    let folder = Folder::new();
    let one = |worker: usize| {
        for number in (worker..KILLS).step_by(AT_A_TIME) {
            let file = folder.file(&format!("{number}.unclosed"));
            kill_one(churn.pid, &file);
            let _ = std::fs::remove_file(file);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|worker| scope.spawn(move || one(worker))).collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

fn kill_one(pid: u32, file: &Path) {
    let mut watch = Run::it(format!("watch -p {pid} -o csv --every 50ms")).output(file).start();
    watch.line(",");
    // The moment is what is tried here, so this one sleep stands for any.
    thread::sleep(Duration::from_millis(RandomState::new().build_hasher().finish() % 200));
    watch.signal(Signal::KILL);
    let killed = watch.done();
    assert_eq!(killed.signal, Some(9), "{}", killed.err);
    // A line that was cut is no line.
    let told = &killed.out[..killed.out.rfind('\n').unwrap() + 1];

    let shown = Run::it("show -o csv --series internet").file(file).done().ok();
    let kept = shown.points();
    for point in points(told) {
        assert!(kept.contains(&point), "{point:?} was told and is lost; there is:\n{}", shown.out);
    }
    // At most the tick that was in flight is more.
    assert!(kept.len() <= points(told).len() + 1, "{}\n{told}", shown.out);
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[test]
fn a_recording_whose_recorder_was_killed_says_when_it_was_last_seen() {
    let churn = Churn::with("--leak-per-second 5");
    let folder = Folder::new();
    let file = folder.file("k.unclosed");
    let mut record = Run::it(format!("record -p {} --every 50ms", churn.pid)).output(&file).start();
    record.complaint("Recording to");
    let report = || Run::it("show -o json").file(&file).done();
    until("a tick", || report().json()["ticks"].as_u64().filter(|ticks| *ticks > 3));
    record.signal(Signal::KILL);
    record.done();
    let report = report().ok().json();
    assert!(report["target"]["processes"][0]["ended"].is_null(), "nobody saw it end");
    assert!(!report["resources"].as_array().unwrap().is_empty());
}
