//! What the kernel knows of a socket beyond its addresses, held against `ss`; sockets of other network namespaces.

use crate::act::{AS_NOBODY, Folder, Run, Running, has, is_root, skip};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// A process with sockets whose queues are not empty.
pub(crate) struct Queues {
    _running: Running,
    pub(crate) pid: u64,
    pub(crate) inodes: BTreeMap<String, u64>,
}

impl Queues {
    /// Started by a shell's line that has `$queues` for it.
    pub(crate) fn start(line: &str) -> Self {
        let script = concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/leakers/queues.py");
        let mut running = Run::shell(line).env("queues", script).start();
        let told: Value = serde_json::from_str(&running.line_that("its sockets", |it| it.starts_with('{'))).unwrap();
        let inodes = serde_json::from_value(told["inodes"].clone()).unwrap();
        Queues { _running: running, pid: told["pid"].as_u64().unwrap(), inodes }
    }

    /// Its sockets, by name, out of what `list -o json` printed.
    pub(crate) fn rows(&self, told: &Value) -> BTreeMap<&str, Value> {
        let resources = told["resources"].as_array().unwrap();
        let row = |inode: u64| resources.iter().find(|it| it["inode"] == inode).cloned();
        let rows = self.inodes.iter().map(|(name, inode)| (name.as_str(), row(*inode).unwrap_or_default()));
        rows.collect()
    }
}

/// A socket as ss has it.
struct SsRow {
    receive_queue: u64,
    send_queue: u64,
    uid: u64,
    cgroup: Option<String>,
    retransmits: u64,
}

/// What ss says of every socket with these flags, by inode: a line each, and one more with what TCP knows.
fn ss(flags: &str) -> BTreeMap<u64, SsRow> {
    let told = Run::program("ss", flags.split(' ')).done().ok().out;
    let mut rows: BTreeMap<u64, SsRow> = BTreeMap::new();
    let mut last = 0;
    for line in told.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
        if line.starts_with(char::is_whitespace) {
            let total = after("retrans:").and_then(|both| both.split('/').nth(1)).map(|total| total.parse().unwrap());
            if let Some(row) = rows.get_mut(&last) {
                row.retransmits = total.unwrap_or(0);
            }
            continue;
        }
        // A Unix socket's line begins with its type, and has its inode behind its name.
        let is_unix = words[0].starts_with("u_");
        let queue = |at: usize| words[at + usize::from(is_unix)].parse().unwrap();
        let inode = if is_unix { words.get(5).copied() } else { after("ino:") };
        let Some(inode) = inode.and_then(|inode| inode.parse().ok()) else { continue };
        last = inode;
        let row = SsRow {
            receive_queue: queue(1),
            send_queue: queue(2),
            uid: after("uid:").map_or(0, |uid| uid.parse().unwrap()),
            cgroup: after("cgroup:").map(str::to_owned),
            retransmits: 0,
        };
        rows.insert(inode, row);
    }
    rows
}

/// A cgroup of the unified hierarchy that is removed with the case.
struct Cgroup {
    folder: PathBuf,
    path: String,
}

impl Cgroup {
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let path = format!("/unclosed-test-{}", std::process::id());
        let folder = PathBuf::from(format!("{}{path}", line.split(' ').nth(4)?));
        fs::create_dir(&folder).ok()?;
        Some(Cgroup { folder, path })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

#[test]
fn queues_user_cgroup_and_retransmits_are_told_as_ss_tells_them() {
    if !has("ss") {
        skip!("there is no ss");
    }
    let cgroup = Cgroup::new();
    let enter = cgroup.as_ref().map(|it| format!("echo $$ > {}/cgroup.procs; ", it.folder.display()));
    let become_nobody = if is_root() && has("setpriv") { AS_NOBODY } else { "" };
    let queues = Queues::start(&format!("{}exec {become_nobody} sh -c \"exec $queues\"", enter.unwrap_or_default()));
    let told = Run::it(format!("list -p {} -o json", queues.pid)).done().ok().json();
    let (internet, unix) = (["-taineH", "-uaneH"].map(ss), ss("-xaeH"));
    let mut compared = 0;
    for (name, row) in queues.rows(&told) {
        let detail = &row["detail"];
        let inode = queues.inodes[name];
        let is_unix = name.starts_with("unix");
        let Some(theirs) = internet.iter().find_map(|rows| rows.get(&inode)).or_else(|| unix.get(&inode)) else {
            panic!("ss doesn't tell {name}, {inode}")
        };
        assert_eq!(detail["receive_queue"], theirs.receive_queue, "receive queue of {name}");
        assert_eq!(detail["send_queue"], theirs.send_queue, "send queue of {name}");
        let uid = fs::metadata(format!("/proc/{}", queues.pid)).map(|it| std::os::unix::fs::MetadataExt::uid(&it));
        assert_eq!(detail["uid"], uid.unwrap(), "user of {name}");
        if !is_unix {
            assert_eq!(detail["uid"], theirs.uid, "user of {name}");
            assert_eq!(detail["cgroup"].as_str(), theirs.cgroup.as_deref(), "cgroup of {name}");
            if let Some(cgroup) = &cgroup {
                assert_eq!(detail["cgroup"], cgroup.path, "cgroup of {name}");
            }
        }
        if row["kind"] == "tcp" && row["state"] != "LISTEN" {
            // ss looked later.
            assert!(detail["retransmits"].as_u64().unwrap() <= theirs.retransmits, "retransmits of {name}: {row}");
            assert!(detail["congestion_state"].is_string(), "{name}: {row}");
        } else {
            assert!(detail["retransmits"].is_null() && detail["congestion_state"].is_null(), "{name}: {row}");
        }
        compared += 1;
    }
    assert!(compared >= 12, "{compared}");
    let rows = queues.rows(&told);
    let queue = |name: &str, which: &str| rows[name]["detail"][which].as_u64().unwrap();
    assert_eq!((queue("listener", "receive_queue"), queue("listener", "send_queue")), (1, 7));
    assert_eq!((queue("unix_listener", "receive_queue"), queue("unix_listener", "send_queue")), (1, 3));
    for (name, which) in [("sender", "send_queue"), ("reader", "receive_queue"), ("datagrams", "receive_queue")] {
        assert!(queue(name, which) > 0, "{which} of {name}");
    }
    assert_eq!(rows["quiet"]["detail"]["congestion_state"], "open");
}

#[test]
fn another_network_namespace_is_read_from_inside() {
    if !is_root() || !has("unshare") || !has("ip") {
        skip!("only root may enter another network namespace, by unshare and ip");
    }
    if Run::shell("unshare -n true").done().code != Some(0) {
        skip!("no network namespace can be made here");
    }
    let queues = Queues::start("exec unshare -n sh -c 'ip link set lo up && exec $queues'");
    let done = Run::it(format!("list -p {} -o json", queues.pid)).done().ok();
    assert!(!done.err.contains("namespace"), "{}", done.err);
    let told = done.json();
    let rows = queues.rows(&told);
    assert_eq!((&rows["quiet"]["bytes_sent"], &rows["accepted"]["bytes_received"]), (&4.into(), &4.into()));
    assert!(rows["quiet"]["silent_seconds"].is_number(), "{}", rows["quiet"]);
    assert_eq!(rows["unix_sender"]["peer"]["inode"], queues.inodes["unix_reader"]);
    assert_eq!(rows["listener"]["detail"]["send_queue"], 7);
    // Both namespaces at once, and each as by itself: ours has the same addresses.
    let ours = Queues::start("exec $queues");
    let both = Run::it(format!("list -p {},{} -o json", queues.pid, ours.pid)).done().ok().json();
    let rows = (queues.rows(&both), ours.rows(&both));
    for name in ["quiet", "accepted", "listener", "unix_sender", "datagrams"] {
        assert_eq!(rows.0[name]["holders"][0]["pid"], queues.pid, "{name}");
        assert_eq!(rows.1[name]["holders"][0]["pid"], ours.pid, "{name}");
        assert!(rows.0[name]["detail"].is_object() && rows.1[name]["detail"].is_object(), "{name}");
    }
}

#[test]
fn another_network_namespace_without_privilege_is_read_from_proc() {
    if !is_root() || !has("setpriv") || !has("unshare") || !has("ip") {
        skip!("it takes root, setpriv, unshare and ip to be an unprivileged user beside a namespace");
    }
    if Run::shell(&format!("{AS_NOBODY} unshare -rn true")).done().code != Some(0) {
        skip!("an unprivileged user may make no network namespace here");
    }
    let folder = Folder::new();
    let copy = folder.program_for_all();
    let queues = Queues::start(&format!("exec {AS_NOBODY} unshare -rn sh -c 'ip link set lo up && exec $queues'"));
    let list = format!("{AS_NOBODY} {} list -p {} -o json", copy.display(), queues.pid);
    let done = Run::shell(&list).done().ok().complains(&["another network namespace", "CAP_SYS_ADMIN", "sudo"]);
    let told = done.json();
    let rows = queues.rows(&told);
    let quiet = &rows["quiet"];
    assert_eq!(quiet["state"], "ESTABLISHED");
    assert!(quiet["local"].is_string() && quiet["remote"].is_string(), "{quiet}");
    for unknown in ["bytes_sent", "bytes_received", "silent_seconds"] {
        assert!(quiet[unknown].is_null(), "{unknown}: {quiet}");
    }
    assert!(rows["sender"]["detail"]["send_queue"].as_u64().unwrap() > 0, "{}", rows["sender"]);
    assert!(rows["listener"]["detail"]["send_queue"].is_null(), "its limit is not in that file");
    assert!(rows["unix_sender"]["peer"].is_null());
}
