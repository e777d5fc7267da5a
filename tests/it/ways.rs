//! The ways to read a process, `--source bpf`, `sock-diag` and `proc`, tell the same: what one can't know it leaves open,
//! and never tells otherwise.

use crate::act::{AS_NOBODY, Folder, Run, Running, has, is_root, shown, skip, until};
use crate::kinds::compares_files;
use crate::leakers::{Churn, Shared, Zoo};
use crate::sockets::Queues;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const WAYS: [&str; 3] = ["bpf", "sock-diag", "proc"];

/// Silence counts from the tick on, and the tables are read a moment later; the kernel rounds by up to 10 ms besides.
const SILENCE_NOISE_SECONDS: f64 = 0.5;

fn has_bpf() -> bool {
    Run::it(format!("list -p {} --source bpf", std::process::id())).done().code == Some(0)
}

/// What `list` says by one way.
struct Told {
    way: &'static str,
    at: f64,
    /// By pid and descriptor.
    rows: BTreeMap<(u64, u64), Value>,
}

impl Told {
    fn by(way: &'static str, pids: &str) -> Self {
        Told::from(way, &Run::it(format!("list -p {pids} --all -o json --source {way}")).done().ok().json())
    }

    fn from(way: &'static str, told: &Value) -> Self {
        let number = |holder: &Value, field: &str| holder[field].as_u64().unwrap();
        let mut rows = BTreeMap::new();
        for resource in told["resources"].as_array().unwrap() {
            for holder in resource["holders"].as_array().unwrap() {
                let is_second = rows.insert((number(holder, "pid"), number(holder, "fd")), resource.clone()).is_some();
                assert!(!is_second, "{way} tells {holder} twice");
            }
        }
        Told { way, at: told["at"].as_f64().unwrap(), rows }
    }

    /// When the last byte came or went.
    fn last_active(&self, row: &Value) -> Option<f64> {
        row["silent_seconds"].as_f64().map(|silent| self.at - silent)
    }
}

/// A field of a row, or of its detail: `("detail.offset", 7)`.
fn fields(row: &Value) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    for (name, value) in row.as_object().unwrap() {
        match value.as_object() {
            Some(detail) if name == "detail" => {
                fields.extend(detail.iter().map(|(name, value)| (format!("detail.{name}"), value.clone())));
            }
            _ => drop(fields.insert(name.clone(), value.clone())),
        }
    }
    fields
}

/// What is another each time: numbers that count from the first row, times (compared as such), what grows meanwhile.
const OWN: [&str; 5] = ["id", "silent_seconds", "age_seconds", "detail.retransmits", "detail"];

/// What must be there in each way, and be the same.
const ALWAYS: [&str; 7] = ["kind", "family", "type", "access", "inode", "holders", "fd"];

/// Holds one way's rows against those of another; gives back what only one of them knows, as `member field` with the way
/// that knows it in front.
fn compare(name: impl Fn(u64) -> Option<String>, one: &Told, other: &Told) -> BTreeSet<String> {
    let numbers = |told: &Told| told.rows.keys().copied().collect::<Vec<_>>();
    assert_eq!(numbers(one), numbers(other), "descriptors by {} and {}", one.way, other.way);
    let mut known_to_one = BTreeSet::new();
    for (key, mine) in &one.rows {
        let theirs = &other.rows[key];
        let Some(member) = name(key.1) else { continue };
        let both = format!("of {member} by {} and {}:\n{mine:#}\n{theirs:#}", one.way, other.way);
        for field in ALWAYS {
            assert_eq!(mine[field], theirs[field], "{field} {both}");
        }
        match (one.last_active(mine), other.last_active(theirs)) {
            (Some(mine), Some(theirs)) => {
                assert!((mine - theirs).abs() < SILENCE_NOISE_SECONDS, "silence {both}");
            }
            (None, None) => {}
            (Some(_), None) => drop(known_to_one.insert(format!("{}: {member} silent_seconds", one.way))),
            (None, Some(_)) => drop(known_to_one.insert(format!("{}: {member} silent_seconds", other.way))),
        }
        let (mine, theirs) = (fields(mine), fields(theirs));
        let names: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
        let is_trying = |field: &str| field == "detail.congestion_state" && member.ends_with("_syn_sent");
        for field in names.into_iter().filter(|field| !OWN.contains(&field.as_str()) && !is_trying(field)) {
            let pair = [&mine, &theirs].map(|row| row.get(field).unwrap_or(&Value::Null));
            match pair.map(Value::is_null) {
                [false, true] => drop(known_to_one.insert(format!("{}: {member} {field}", one.way))),
                [true, false] => drop(known_to_one.insert(format!("{}: {member} {field}", other.way))),
                _ => assert_eq!(pair[0], pair[1], "{field} {both}"),
            }
        }
    }
    known_to_one
}

/// True of what sockets that stand in no table have told to the iterator alone. A socket's class is told where it stands
/// in no table, whose row would have its addresses.
fn is_beyond_sock_diag(known: &str) -> bool {
    let Some((way, member, field)) = parts(known) else { return false };
    let in_no_table = ["_fresh", "_reset"].iter().any(|end| member.ends_with(end))
        || ["netlink", "raw4", "raw6", "packet", "packet_dgram", "ping", "udplite", "vsock", "alg", "udp"]
            .contains(&member);
    let is_detail = field.starts_with("detail.");
    match way {
        "bpf" if in_no_table && is_detail => true,
        "bpf" if member.starts_with("raw") => field == "local",
        // Its peer has no inode as long as it was not accepted.
        "bpf" if member == "unix_stream_queued" => ["name", "remote"].contains(&field),
        // A walk has not seen every process where it was out of time.
        "bpf" => field == "detail.other_end",
        _ => field == "class" && in_no_table,
    }
}

/// True of what `/proc/PID/net` doesn't have.
fn is_beyond_proc(known: &str) -> bool {
    let Some((way, member, field)) = parts(known) else { return false };
    let is_unix = member.starts_with("unix");
    let is_listener = member.contains("listen") || member.ends_with("_full");
    let is_only_bound = member.starts_with("tcp") && member.ends_with("_bound");
    match (way, field) {
        ("bpf", "bytes_sent" | "bytes_received" | "silent_seconds") => true,
        ("bpf", "detail.cgroup" | "detail.congestion_state") => true,
        ("bpf", "detail.send_queue") if is_listener || is_unix || is_only_bound => true,
        ("bpf", "peer" | "accepted_by" | "name" | "remote") if is_unix => true,
        ("bpf", "detail.receive_queue" | "detail.uid") if is_unix => true,
        ("bpf", "local" | "state" | "detail.receive_queue" | "detail.uid") if is_only_bound => true,
        ("bpf", "class") => member.starts_with("mptcp"),
        ("proc", "class") if is_only_bound => true,
        ("proc", "detail.receive_queue" | "detail.send_queue") => member.starts_with("raw"),
        _ => is_beyond_sock_diag(known),
    }
}

fn parts(known: &str) -> Option<(&str, &str, &str)> {
    let (way, rest) = known.split_once(": ")?;
    let (member, field) = rest.split_once(' ')?;
    Some((way, member, field))
}

fn assert_no_more(known: &BTreeSet<String>, is_allowed: impl Fn(&str) -> bool) {
    let beyond: Vec<&String> = known.iter().filter(|known| !is_allowed(known)).collect();
    assert!(beyond.is_empty(), "only one of the two ways knows {beyond:#?}");
}

#[test]
fn each_way_tells_the_same_of_every_kind() {
    if !has_bpf() {
        skip!("BPF is refused here");
    }
    let zoo = Zoo::open();
    let pid = zoo.pid.to_string();
    let [bpf, sock_diag, proc] = WAYS.map(|way| Told::by(way, &pid));
    let name = |fd: u64| Some(zoo.member(fd as i32).to_owned()).filter(|name| name != "no member");
    assert_no_more(&compare(name, &bpf, &sock_diag), is_beyond_sock_diag);
    assert_no_more(&compare(name, &bpf, &proc), is_beyond_proc);
    // Not merely unknown to both.
    let row = |member: &str| &bpf.rows[&(zoo.pid.into(), zoo.fd(member).unwrap() as u64)];
    for member in ["tcp4_client", "tcp4_close_wait", "tcp4_fin_wait2", "tcp4_queued", "tcp4_to_child"] {
        assert!(row(member)["silent_seconds"].is_number() && row(member)["bytes_sent"].is_number(), "{}", row(member));
    }
    for field in ["silent_seconds", "bytes_sent", "bytes_received"] {
        assert!(row("tcp4_syn_sent")[field].is_null(), "nothing was exchanged yet: {}", row("tcp4_syn_sent"));
    }
    assert_eq!(row("memfd")["detail"]["offset"], 0);
    assert!(row("file_path_only")["detail"]["offset"].is_null() && row("pidfd")["detail"]["offset"].is_null());
}

#[test]
fn each_way_tells_the_same_of_what_processes_share() {
    if !has_bpf() {
        skip!("BPF is refused here");
    }
    let shared = Shared::open();
    let pids = format!("{},{}", shared.running.pid(), shared.child);
    let [bpf, sock_diag, proc] = WAYS.map(|way| Told::by(way, &pids));
    let name = |fd: u64| Some(shared.open.iter().find(|(_, its)| **its == fd)?.0.clone());
    assert_no_more(&compare(name, &bpf, &sock_diag), is_beyond_sock_diag);
    assert_no_more(&compare(name, &bpf, &proc), is_beyond_proc);
    for fd in shared.open.values() {
        let holders = &bpf.rows[&(shared.child.into(), *fd)]["holders"];
        assert_eq!(holders.as_array().unwrap().len(), 2, "{holders}");
    }
}

/// Records by each way at once.
fn record(pids: &str, folder: &Folder) -> [Running; 3] {
    WAYS.map(|way| {
        let file = folder.file(&format!("{way}.unclosed"));
        let mut record = Run::it(format!("record -p {pids} --every 100ms --source {way}")).output(&file).start();
        record.complaint("Recording to ");
        until("its first ticks", || (shown(&file)["ticks"].as_u64()? > 2).then_some(()));
        record
    })
}

fn recording(folder: &Folder, way: &str) -> Value {
    shown(&folder.file(&format!("{way}.unclosed")))
}

#[test]
fn each_way_counts_the_same_series() {
    if !has_bpf() {
        skip!("BPF is refused here");
    }
    let shared = Shared::open();
    let folder = Folder::new();
    for record in record(&format!("{},{}", shared.running.pid(), shared.child), &folder) {
        record.interrupt().ok();
    }
    let [bpf, sock_diag, proc] = WAYS.map(|way| {
        let report = recording(&folder, way);
        let series = report["series"].as_array().unwrap().iter();
        let last = series.map(|it| (it["name"].as_str().unwrap().to_owned(), it["last"].clone()));
        let counted = ["connections", "internet", "descriptors", "accepted", "inotify_watches"];
        last.filter(|(name, _)| counted.contains(&name.split(':').next().unwrap())).collect::<BTreeMap<_, _>>()
    });
    assert_eq!(bpf, sock_diag);
    for name in ["internet", "descriptors", "descriptors:tcp", "descriptors:eventfd"] {
        assert!(bpf[name].as_f64().unwrap() > 0.0, "{name} in {bpf:#?}");
    }
    // A Unix socket without a name has its peer in no file.
    let told = |of: &BTreeMap<String, Value>, name: &str| of.get(name).and_then(Value::as_f64);
    assert_eq!(told(&bpf, "connections"), Some(3.0));
    assert_eq!(told(&proc, "connections"), Some(1.0));
    for name in proc.keys().filter(|name| !name.starts_with("connections")) {
        assert_eq!(told(&bpf, name), told(&proc, name), "{name}");
    }
}

#[test]
fn each_way_sees_the_same_opened_and_closed() {
    if !has_bpf() {
        skip!("BPF is refused here");
    }
    let mut churn = Churn::with("--healthy-per-second 24 --leak-per-second 3");
    let folder = Folder::new();
    let records = record(&churn.pid.to_string(), &folder);
    churn.running.line("leaked 20");
    for record in records {
        record.interrupt().ok();
    }
    let seen = WAYS.map(|way| {
        let file = folder.file(&format!("{way}.unclosed"));
        let report = Run::it("show -o json --closed").file(&file).done().ok().json();
        let tcp = report["resources"].as_array().unwrap().iter().filter(|it| it["kind"] == "tcp").cloned();
        let ticks = Run::it("show -o csv --series connections").file(&file).done().ok().out;
        let ticks: Vec<f64> = ticks.lines().map(|line| line.split(',').next().unwrap().parse().unwrap()).collect();
        (ticks, tcp.collect::<Vec<_>>())
    });
    let (from, to) = seen
        .iter()
        .fold((0.0_f64, f64::MAX), |(from, to), it| (from.max(*it.0.first().unwrap()), to.min(*it.0.last().unwrap())));
    let (mut open, mut closed) = (0, 0);
    for (way, (_, rows)) in WAYS.iter().zip(&seen) {
        for row in rows {
            // What was there for long enough, and was not just opened or closed when one of the three began or ended.
            let opened = row["opened"].as_f64().unwrap();
            let end = row["closed"].as_f64().unwrap_or(to);
            let is_open = row["closed"].is_null();
            if end.min(to) - opened.max(from) < 0.5 || (!is_open && !(from + 0.5..to - 0.5).contains(&end)) {
                continue;
            }
            for (other, (ticks, theirs_all)) in WAYS.iter().zip(&seen) {
                // On a busy machine a tick may be late, and what lives between two of them is seen by nobody.
                if ticks.iter().filter(|at| (opened..end).contains(at)).count() < 3 {
                    continue;
                }
                let same = |it: &&Value| it["inode"] == row["inode"] && it["local"] == row["local"];
                let found = theirs_all.iter().find(same);
                let theirs = found.unwrap_or_else(|| panic!("{way} saw, and {other} didn't: {row:#}"));
                // What is let go at the last looks is closed for one who looked once more, and open for one who didn't.
                let is_let_go_last = theirs["closed"].as_f64().is_some_and(|closed| closed > to - 0.5);
                let same_end = theirs["closed"].is_null() == is_open || (is_open && is_let_go_last);
                let all: Vec<&Value> = theirs_all.iter().filter(same).collect();
                assert!(same_end, "{way} {row:#}, {other} {all:#?}, from {from} to {to}, {ticks:?}");
                assert_eq!(theirs["remote"], row["remote"]);
            }
            *(if is_open { &mut open } else { &mut closed }) += 1;
        }
    }
    assert!(open >= 3 * 15 && closed >= 3, "{open} open, {closed} closed");
}

#[test]
fn another_network_namespace_is_told_by_each_way() {
    if !is_root() || !has("unshare") || !has("ip") || !has_bpf() {
        skip!("it takes root, unshare, ip and BPF to look into another network namespace");
    }
    if Run::shell("unshare -n true").done().code != Some(0) {
        skip!("no network namespace can be made here");
    }
    let queues = Queues::start("exec unshare -n sh -c 'ip link set lo up && exec $queues'");
    for way in WAYS {
        let told = Run::it(format!("list -p {} -o json --source {way}", queues.pid)).done().ok().json();
        let rows = queues.rows(&told);
        let (quiet, accepted) = (&rows["quiet"], &rows["accepted"]);
        assert_eq!((&quiet["state"], &quiet["kind"]), (&json!("ESTABLISHED"), &json!("tcp")), "{way}");
        assert_eq!((&quiet["local"], &quiet["remote"]), (&accepted["remote"], &accepted["local"]), "{way}");
        if way == "proc" {
            for field in ["bytes_sent", "bytes_received", "silent_seconds"] {
                assert!(quiet[field].is_null(), "{field} of {quiet:#}");
            }
            continue;
        }
        assert_eq!((&quiet["bytes_sent"], &accepted["bytes_received"]), (&json!(4), &json!(4)), "{way}");
        assert!(quiet["silent_seconds"].is_number() && accepted["silent_seconds"].is_number(), "{way}: {quiet:#}");
        assert_eq!(rows["unix_sender"]["peer"]["inode"], queues.inodes["unix_reader"], "{way}");
    }
}

#[test]
fn another_users_process_is_read_by_bpf_where_proc_is_closed() {
    if !is_root() || !has("setpriv") || !has("setcap") || !has_bpf() {
        skip!("it takes root, setpriv, setcap and BPF to be another user with BPF's capabilities");
    }
    let folder = Folder::new();
    let copy = folder.program_for_all();
    Run::program("setcap", ["cap_bpf,cap_perfmon+ep"]).file(&copy).done().ok();
    let zoo = Zoo::open();
    let list = format!("{AS_NOBODY} {} list -p {} --all -o json", copy.display(), zoo.pid);
    let theirs = Told::from("auto", &Run::shell(&list).done().ok().json());
    let ours = Told::by("bpf", &zoo.pid.to_string());
    assert_eq!(ours.rows.keys().collect::<Vec<_>>(), theirs.rows.keys().collect::<Vec<_>>());
    for ((pid, fd), mine) in &ours.rows {
        let (theirs, member) = (&theirs.rows[&(*pid, *fd)], zoo.member(*fd as i32));
        for field in ["access", "inode", "family", "type", "local", "remote", "state", "holders", "bytes_sent"] {
            assert_eq!(mine[field], theirs[field], "{field} of {member}");
        }
        if mine["family"].is_string() || mine["kind"] == "unix" {
            assert_eq!((&mine["kind"], &mine["name"]), (&theirs["kind"], &theirs["name"]), "{member}");
        } else {
            assert!(theirs["name"].is_null(), "{member}: {theirs:#}");
        }
        assert_eq!(mine["silent_seconds"].is_null(), theirs["silent_seconds"].is_null(), "{member}");
    }
}

/// Holds a connection and a file. At SIGUSR1 it makes other numbers for them, at the next it closes the first, and at
/// SIGUSR2 it becomes another program.
const LIVES: &str = "\
import os, signal, socket, sys
listening = socket.create_server(('127.0.0.1', 0))
held = [socket.create_connection(listening.getsockname()).detach(), os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)]
copied = []
def move(*_):
    if copied:
        for descriptor in held:
            os.close(descriptor)
    else:
        copied.extend(os.dup2(descriptor, 60 + place) for place, descriptor in enumerate(held))
    print('moved', flush=True)
signal.signal(signal.SIGUSR1, move)
signal.signal(signal.SIGUSR2, lambda *_: os.execvp('sleep', ['sleep', '600']))
print(*held, flush=True)
while True:
    signal.pause()";

/// The ids of what is open and held by each of these sets of numbers alone; `None` where something isn't.
fn ids(report: &Value, wanted: [&[u64]; 2]) -> Option<[Value; 2]> {
    let holds = |it: &Value, wanted: &[u64]| {
        let holders = it["holders"].as_array().unwrap().iter();
        it["closed"].is_null() && holders.map(|holder| holder["fd"].as_u64().unwrap()).eq(wanted.iter().copied())
    };
    let found = wanted.map(|wanted| {
        let mut resources = report["resources"].as_array().unwrap().iter();
        resources.find(|it| holds(it, wanted)).map(|it| it["id"].clone())
    });
    let [first, second] = found;
    Some([first?, second?])
}

/// What was closed but for files: a new program's loader opens and closes some, which a tick may see.
fn closed_connections(file: &Path) -> usize {
    let report = Run::it("show -o json --closed").file(file).done().ok().json();
    let closed = |it: &&Value| it["kind"] == "tcp" && !it["closed"].is_null();
    report["resources"].as_array().unwrap().iter().filter(closed).count()
}

fn lives(way: &str, folder: &Path) {
    let mut program = Run::program("python3", ["-c", LIVES]).file(&folder.join(format!("{way}-held"))).start();
    let held = program.line_that("its descriptors", |line| line.contains(' '));
    let (connection, opened) =
        held.split_once(' ').map(|(one, other)| (one.parse().unwrap(), other.parse().unwrap())).unwrap();
    let file = folder.join(format!("{way}.unclosed"));
    let watch = format!("record -p {} --every 50ms --source {way}", program.pid());
    let mut watch = Run::it(watch).output(&file).start();
    watch.complaint("Recording to ");
    let before = until("what it holds", || ids(&shown(&file), [&[connection], &[opened]]));
    program.signal(Signal::USR1);
    program.line("moved");
    let both = until("the copies", || ids(&shown(&file), [&[connection, 60], &[opened, 61]]));
    program.signal(Signal::USR1);
    program.line("moved");
    let moved = until("the copies alone", || ids(&shown(&file), [&[60], &[61]]));
    assert_eq!([&before, &before], [&both, &moved], "{way}: by another number it is the one it was");
    assert_eq!(closed_connections(&file), 0, "{way}");
    program.signal(Signal::USR2);
    // The exec has closed the listener, by which the kernel has reset what was connected to it: held all the same.
    let after = until("the program it has become", || (closed_connections(&file) == 1).then(|| shown(&file)));
    assert_eq!(ids(&after, [&[60], &[61]]).as_ref(), Some(&before), "{way}: {after:#}");
    assert_eq!(after["target"]["processes"].as_array().unwrap().len(), 1, "{way}: {after:#}");
    program.signal(Signal::KILL);
    program.done();
    watch.done().ok();
    let report = shown(&file);
    assert!(report["target"]["processes"][0]["ended"].is_number(), "{way}: {report:#}");
    assert_eq!(closed_connections(&file), 1, "{way}: what ended with its process was not closed by it");
    assert_eq!(ids(&report, [&[60], &[61]]), Some(before), "{way}");
}

#[test]
fn what_is_moved_kept_over_an_exec_or_ends_with_its_process_is_so_by_each_way() {
    let folder = Folder::new();
    for way in WAYS {
        let knows_files = if way == "bpf" { has_bpf() } else { compares_files() };
        if knows_files {
            lives(way, folder.path());
        }
    }
}
