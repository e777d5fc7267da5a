//! Every kind of descriptor with its details, and what is shared told once: over the zoo, and a process that forks.

use crate::act::{Folder, Run, Running, has, shown, skip, until};
use crate::leakers::{Shared, Zoo};
use crate::list::ours;
use crate::lsof_fields::{self, Record};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A resource's holders, `(pid, fd)`.
fn holders(resource: &Value) -> BTreeSet<(u64, u64)> {
    let pair = |holder: &Value| (holder["pid"].as_u64().unwrap(), holder["fd"].as_u64().unwrap());
    resource["holders"].as_array().unwrap().iter().map(pair).collect()
}

#[test]
fn every_kind_has_its_details() {
    let zoo = Zoo::open();
    let ours = ours(&zoo, "--all");
    let child = zoo.child;
    let expected = [
        ("file_moved", "offset", json!(7)),
        ("file_moved", "deleted", json!(false)),
        ("file_read", "offset", json!(0)),
        ("file_deleted", "deleted", json!(true)),
        ("file_renamed", "deleted", json!(false)),
        ("file_path_only", "path_only", json!(true)),
        ("pipe_read", "end", json!("read")),
        ("pipe_write", "end", json!("write")),
        ("fifo", "end", json!("both")),
        ("eventfd", "count", json!(0)),
        ("eventfd_17", "count", json!(17)),
        ("epoll", "targets", json!(0)),
        ("epoll_of_3", "targets", json!(3)),
        ("inotify", "watches", json!(0)),
        ("inotify_of_5", "watches", json!(5)),
        ("fanotify", "watches", json!(1)),
        ("timerfd", "clock", json!("monotonic")),
        ("timerfd", "interval_seconds", json!(0.0)),
        ("timerfd_ringing", "clock", json!("boottime")),
        ("timerfd_ringing", "interval_seconds", json!(1.5)),
        ("signalfd", "signals", json!(["SIGHUP", "SIGUSR2", "SIGRTMIN+0"])),
        ("pidfd", "pid", json!(child)),
        ("dev_null", "device", json!("1:3")),
        ("bpf_map", "object", json!("map")),
        ("io_uring", "submissions", json!(0)),
    ];
    let mut told = 0;
    for (member, field, value) in expected {
        let Some(fd) = zoo.fd(member) else { continue };
        assert_eq!(ours[&fd]["detail"][field], value, "{field} of {member}: {:#}", ours[&fd]);
        told += 1;
    }
    assert!(told >= 20, "{told}");
    let renamed = &ours[&zoo.fd("file_renamed").unwrap()];
    assert!(renamed["name"].as_str().unwrap().ends_with("/after"), "{renamed:#}");
    // The table and the CSV have them too.
    let row = |member: &str, words: &str| {
        let fd = zoo.fd(member).unwrap();
        let table = Run::it(format!("list --all -p {}", zoo.pid)).done().ok().out;
        let begin = format!(" {fd}{} ", ours[&fd]["access"].as_str().unwrap_or_default());
        let line = table.lines().find(|line| line.contains(&begin)).unwrap_or_else(|| panic!("{begin}\n{table}"));
        assert!(line.ends_with(words), "{line}");
    };
    row("inotify_of_5", "inotify watches=5");
    row("epoll_of_3", "eventpoll targets=3");
    row("file_moved", "/moved offset=7");
}

#[test]
fn offsets_and_the_holders_of_pipes_are_told_as_lsof_tells_them() {
    if !has("lsof") {
        skip!("there is no lsof");
    }
    let zoo = Zoo::open();
    let ours = ours(&zoo, "--all");
    let both = format!("{},{}", zoo.pid, zoo.child);
    let theirs = Run::program("lsof", ["-o", "-n", "-P", "-a", "-d", "0-99999", "-p", &both, "-F"]).done().out;
    let theirs = lsof_fields::parse(&theirs);
    let (mut files, mut ends) = (0, 0);
    for record in theirs.iter().filter(|it| it.pid == zoo.pid && zoo.member(it.fd) != "no member") {
        let (member, row) = (zoo.member(record.fd), &ours[&record.fd]);
        if row["kind"] == "file" && member != "file_path_only" {
            assert_eq!(row["detail"]["offset"].as_u64(), record.offset, "offset of {member}");
            files += 1;
        }
        if row["kind"] == "pipe" {
            let is_other = |it: &&Record| it.kind() == "pipe" && it.inode == record.inode && it.access != record.access;
            let theirs: BTreeSet<_> = theirs.iter().filter(is_other).map(|it| (it.pid.into(), it.fd as u64)).collect();
            let told = row["detail"]["other_end"].as_array().cloned().unwrap_or_default();
            let told: BTreeSet<_> =
                told.iter().map(|end| (end["pid"].as_u64().unwrap(), end["fd"].as_u64().unwrap())).collect();
            assert_eq!(told, theirs, "who holds the other end of {member}");
            ends += told.len();
        }
    }
    assert!(files >= 6 && ends >= 5, "{files} files, {ends} ends");
    let from_child = &ours[&zoo.fd("pipe_from_child").unwrap()];
    assert_eq!(from_child["detail"]["other_end"], json!([{"pid": zoo.child, "fd": 1}]));
}

#[test]
fn what_was_duplicated_or_passed_is_one_resource_and_what_was_opened_twice_is_two() {
    if !compares_files() {
        skip!("kcmp is refused here");
    }
    let zoo = Zoo::open();
    let ours = ours(&zoo, "--all");
    let together = |members: &[&str]| {
        let fds: BTreeSet<u64> = members.iter().filter_map(|name| Some(zoo.fd(name)? as u64)).collect();
        assert_eq!(fds.len(), members.len(), "{members:?} are open");
        let held: BTreeSet<u64> = holders(&ours[&(*fds.first().unwrap() as i32)]).iter().map(|(_, fd)| *fd).collect();
        assert_eq!(held, fds, "{members:?}");
    };
    together(&["eventfd_17", "eventfd_17_dup", "eventfd_17_passed"]);
    together(&["eventfd"]);
    together(&["file_moved", "file_moved_dup"]);
    together(&["tcp4_listen_any", "tcp4_listen_any_dup"]);
    together(&["file_read"]);
    together(&["file_both"]);
    together(&["epoll_of_3"]);
}

/// True where the kernel says which descriptors are one file; `list` says where it doesn't.
pub(crate) fn compares_files() -> bool {
    let said = Run::it(format!("list -p {}", std::process::id())).done().ok().err;
    !said.contains("kcmp is refused")
}

/// The resource of each shared thing, by name; there is one.
fn each<'a>(shared: &'a Shared, pid: u32, resources: &'a Value) -> BTreeMap<&'a str, &'a Value> {
    let one = |name: &'a String, fd: u64| {
        let held = |it: &&Value| holders(it).contains(&(pid.into(), fd));
        let found: Vec<&Value> = resources.as_array().unwrap().iter().filter(held).collect();
        assert_eq!(found.len(), 1, "{name}: {found:#?}");
        (name.as_str(), found[0])
    };
    shared.open.iter().map(|(name, fd)| one(name, *fd)).collect()
}

#[test]
fn what_parent_and_child_share_is_one_resource_and_stays_it_when_the_parent_closes_its_copy() {
    if !compares_files() {
        skip!("kcmp is refused here");
    }
    let mut shared = Shared::open();
    let (pid, child) = (shared.running.pid(), shared.child);
    let told = Run::it(format!("list -p {pid},{child} --all -o json")).done().ok().json();
    for (name, resource) in each(&shared, pid, &told["resources"]) {
        let fd = shared.open[name];
        assert_eq!(holders(resource), [(pid.into(), fd), (child.into(), fd)].into(), "{name}");
    }

    let folder = Folder::new();
    let file = folder.file("shared.unclosed");
    let mut record = Run::it(format!("record -p {pid},{child} --every 100ms")).output(&file).start();
    record.complaint("Recording to ");
    let seen = until("the shared things to be recorded", || {
        let report = shown(&file);
        (report["ticks"].as_u64().unwrap() >= 2).then_some(report)
    });
    let before: BTreeMap<String, Value> = each(&shared, pid, &seen["resources"])
        .into_iter()
        .map(|(name, it)| (name.to_owned(), it["id"].clone()))
        .collect();
    shared.running.signal(Signal::USR1);
    shared.running.line("closed");
    let left = |report: &Value| {
        let left = each(&shared, child, &report["resources"]);
        left.into_iter().all(|(name, it)| holders(it) == [(child.into(), shared.open[name])].into())
    };
    let after = until("the parent's copies to be gone", || Some(shown(&file)).filter(left));
    for (name, resource) in each(&shared, child, &after["resources"]) {
        assert_eq!(resource["id"], before[name], "{name} is the one it was");
        assert_eq!(resource["closed"], Value::Null, "{name}");
    }
    record.interrupt().ok();
}

#[test]
fn watches_of_inotify_are_a_series_with_the_users_limits() {
    let zoo = Zoo::open();
    if zoo.fd("inotify_of_5").is_none() {
        skip!("inotify can't be had here");
    }
    let folder = Folder::new();
    let file = folder.file("zoo.unclosed");
    let mut record: Running = Run::it(format!("record -p {} --every 100ms", zoo.pid)).output(&file).start();
    record.complaint("Recording to ");
    until("a tick", || (shown(&file)["ticks"].as_u64().unwrap() >= 1).then_some(()));
    record.interrupt().ok();
    let report = shown(&file);
    let series = report["series"].as_array().unwrap().iter().find(|it| it["name"] == "inotify_watches");
    assert_eq!(series.unwrap_or_else(|| panic!("{:#}", report["series"]))["last"], 5);
    let limit = |name: &str| report["limits"].as_array().unwrap().iter().find(|it| it["name"] == name).cloned();
    let limit = |name: &str| limit(name).unwrap_or_else(|| panic!("{name} is not in {:#}", report["limits"]));
    assert_eq!(limit("fs.inotify.max_user_watches")["series"], "inotify_watches");
    assert_eq!(limit("fs.inotify.max_user_instances")["series"], "descriptors:inotify");
    // What was seen of each stands in the recording.
    let detail = |member: &str| {
        let fd = zoo.fd(member).unwrap();
        let mut resources = report["resources"].as_array().unwrap().iter();
        resources.find(|it| it["fd"] == fd).unwrap_or_else(|| panic!("no {member}"))["detail"].clone()
    };
    assert_eq!(detail("inotify_of_5")["watches"], 5);
    assert_eq!(detail("file_moved")["offset"], 7);
    assert_eq!(detail("file_deleted")["deleted"], true);
}
