//! Many processes as one target: who is selected, who joins, who is left out, and how they add up.

use crate::act::{AS_NOBODY, Folder, Run, Running, has, is_root, leak_in, shown, skip, until};
use crate::leakers::Prefork;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A name that no other process has.
fn fresh_name() -> String {
    static USED: AtomicU32 = AtomicU32::new(0);
    format!("s{}x{}", std::process::id(), USED.fetch_add(1, Ordering::Relaxed))
}

/// The pids that a selection prints.
fn listed(flags: &str) -> Vec<u32> {
    let told = Run::it(format!("list -t {flags}")).done().ok().out;
    told.lines().map(|line| line.parse().unwrap()).collect()
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// A process of that name that holds nothing of note.
fn sleeper(folder: &Folder, name: &str) -> Running {
    let program = folder.file(name);
    if !program.exists() {
        symlink(sleep(), &program).unwrap();
    }
    let sleeper = Run::program(&program, ["600"]).start();
    // Between fork and exec it still has our name.
    let comm = format!("/proc/{}/comm", sleeper.pid());
    until("the exec", || fs::read_to_string(&comm).is_ok_and(|text| text.trim() == name).then_some(()));
    sleeper
}

fn sleep() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|folder| folder.join("sleep")).find(|program| program.exists()).unwrap()
}

/// The row of a process in a report.
fn row(report: &Value, pid: u32) -> Option<&Value> {
    report["target"]["processes"].as_array()?.iter().find(|process| process["pid"] == pid)
}

#[test]
fn a_prefork_server_adds_up_and_a_worker_that_is_replaced_is_followed() {
    let name = fresh_name();
    let mut server = Prefork::named(&name, "--leak-per-second 4");
    let folder = Folder::new();
    let file = folder.file("p.unclosed");
    let mut record = Run::it(format!("record -c {name} --every 200ms")).output(&file).start();
    record.complaint("Recording to ");
    let report = leak_in(&file, 20);

    let all = report["resources"].as_array().unwrap();
    let open: Vec<&Value> = all.iter().filter(|it| it["closed"].is_null()).collect();
    let holders = |it: &Value| it["holders"].as_array().unwrap().clone();
    for worker in &server.workers {
        let row = row(&report, *worker).unwrap_or_else(|| panic!("no row of {worker}: {:#}", report["target"]));
        assert!(row["name"] == name.as_str() && row["ended"].is_null(), "{row:#}");
        let held = |it: &&&Value| holders(it).iter().any(|holder| holder["pid"] == *worker);
        let its: Vec<&&Value> = open.iter().filter(held).collect();
        let connections: Vec<&&&Value> =
            its.iter().filter(|it| !(it["remote"].is_null() && it["peer"].is_null())).collect();
        assert_eq!(row["connections"], connections.len(), "{row:#} {connections:#?}");
        let leaked = its.iter().filter(|it| it["leaked"] == true).count();
        assert!(leaked >= 3 && row["leaked"] == leaked, "{leaked} leaked: {row:#}");
        let descriptors = its.iter().flat_map(|it| holders(it)).filter(|holder| holder["pid"] == *worker).count();
        assert_eq!(row["descriptors"], descriptors, "{row:#}");
    }
    // What the parent had before it forked stands in the rows of all and is there once.
    let shared = open.iter().filter(|it| it["kind"] == "tcp" && holders(it).len() == 2);
    let states: BTreeSet<&str> = shared.filter_map(|it| it["state"].as_str()).collect();
    assert_eq!(states, BTreeSet::from(["ESTABLISHED", "LISTEN"]));

    // Each has its own limit: the fullest ends first, and it has about half of what leaks.
    let limit = |series: &str| {
        let limits = report["limits"].as_array().unwrap().iter();
        limits.filter(|it| it["series"] == series).find_map(|it| it["value"].as_f64()).unwrap()
    };
    assert_eq!(limit("descriptors"), 2.0 * limit("process_descriptors"));
    let all = report["series"].as_array().unwrap();
    let fullest = all.iter().find(|it| it["name"] == "process_descriptors").and_then(|it| it["last"].as_f64()).unwrap();
    let (rate, exhausts) = (report["verdict"]["rate_per_hour"].as_f64().unwrap(), &report["verdict"]["exhausts"]);
    assert_eq!(exhausts["limit"].as_f64(), Some(limit("process_descriptors")), "{exhausts:#}");
    let seconds = exhausts["at"].as_f64().unwrap() - report["to"].as_f64().unwrap();
    let expected = (limit("process_descriptors") - fullest) / (rate / 2.0) * 3_600.0;
    assert!((0.7..1.1).contains(&(seconds / expected)), "{seconds} s, not {expected}: {exhausts:#}");

    let killed = server.workers[0];
    kill(killed);
    let replaced = server.next_worker();
    until("the next worker to be seen", || row(&shown(&file), replaced).map(drop));
    let report = shown(&file);
    assert!(row(&report, killed).unwrap()["ended"].is_number());
    assert!(row(&report, server.workers[1]).unwrap()["ended"].is_null());
    let events = report["events"].as_array().unwrap();
    let said = |kind: &str, pid: u32| {
        let pid = format!("(pid {pid})");
        events.iter().any(|it| it["kind"] == kind && it["text"].as_str().is_some_and(|text| text.contains(&pid)))
    };
    assert!(said("ended", killed) && said("started", replaced), "{events:#?}");
    assert!(!events.iter().any(|it| it["kind"] == "restart"), "one worker ran on");
    record.interrupt().ok().complains(&[
        "DESCRIPTORS",
        "CONNECTIONS",
        "LEAKED",
        &replaced.to_string(),
        "held by several",
    ]);
}

#[test]
fn kinds_of_selectors_are_anded_and_several_of_one_kind_ored() {
    let (name, other) = (fresh_name(), fresh_name());
    let server = Prefork::named(&name, "--leak-per-second 0");
    let (parent, backend) = (server.pid, server.backend);
    let [a, b] = [server.workers[0], server.workers[1]];
    let both = BTreeSet::from([a, b]);
    let set = |flags: &str| listed(flags).into_iter().collect::<BTreeSet<u32>>();
    assert_eq!(set(&format!("-c {name}")), both);
    assert_eq!(set(&format!("-c {}", &name[..name.len() - 1])).intersection(&both).count(), 2, "a name's begin");
    assert_eq!(set(&format!("-c /^{name}$/")), both);
    assert_eq!(set(&format!("-c /{}/i", name.to_uppercase())).intersection(&both).count(), 2);
    assert_eq!(set(&format!("-c {name} -c {other}")), both, "ORed");
    assert_eq!(set(&format!("-c {name} -p {a},{parent}")), BTreeSet::from([a]), "ANDed");
    assert_eq!(set(&format!("-p {a},{b}")), both);
    assert_eq!(set(&format!("-p {parent} --children")), BTreeSet::from([parent, backend, a, b]));
    let by_line = set(&format!("-c /prefork.py.*{name}/"));
    assert_eq!(by_line, BTreeSet::from([parent, backend, a, b]), "the command line");
    assert_eq!(set(&format!("-c /prefork.py.*{name}/ -c ^{name}")), BTreeSet::from([parent, backend]));
    let own = rustix::process::geteuid().as_raw();
    assert_eq!(set(&format!("-c {name} -u {own}")), both);
    Run::it(format!("list -c {name} -u ^{own}")).done().fails(5, &[&name, "-u ^", "pgrep", "ps -u"]);
    // A row a descriptor, of each of them.
    let rows = Run::it(format!("list -i -c {name}")).done().ok().out;
    for worker in both {
        assert!(rows.lines().any(|line| line.contains(&format!(" {worker} "))), "{rows}");
    }
}

#[test]
fn we_are_no_target_unless_we_are_named_by_our_pid() {
    let folder = Folder::new();
    let name = fresh_name();
    let copy = folder.file(&name);
    symlink(env!("CARGO_BIN_EXE_unclosed"), &copy).unwrap();
    for pattern in [name.clone(), format!("/{name}/")] {
        Run::program(&copy, ["list", "-t", "-c", &pattern]).done().fails(5, &[&name]);
        // What started us has the name in its command line.
        let line = format!("{} list -t -c {pattern}; exit $?", copy.display());
        Run::shell(&line).done().fails(5, &[&name]);
    }
    let line = format!("exec {} list -t -p $$ -c {name}", copy.display());
    let done = Run::shell(&line).done().ok();
    assert_eq!(done.out.lines().count(), 1, "{}", done.out);
}

#[test]
fn a_watch_by_name_waits_for_the_next_and_shows_the_time_between() {
    let folder = Folder::new();
    let (name, file) = (fresh_name(), folder.file("w.unclosed"));
    let first = sleeper(&folder, &name);
    let mut watch = Run::it(format!("watch -c {name} --every 100ms")).output(&file).start();
    watch.line("descriptors");
    first.signal(Signal::KILL);
    first.done();
    watch.complaint("waiting for the next");
    for _ in 0..5 {
        watch.line("no process runs");
    }
    let second = sleeper(&folder, &name);
    watch.line("descriptors");
    let pid = second.pid();
    watch.interrupt().ok().says(&[" gap"]);
    let report = shown(&file);
    assert_eq!(report["target"]["processes"].as_array().unwrap().len(), 2, "{:#}", report["target"]);
    let second = row(&report, pid).unwrap();
    assert!(second["ended"].is_null());
    let ended = report["target"]["processes"][0]["ended"].as_f64().unwrap();
    // A busy machine may have left others.
    let gaps: Vec<(f64, f64)> = serde_json::from_value(report["gaps"].clone()).unwrap();
    let gap = gaps.iter().find(|gap| gap.0 <= ended && ended < gap.1 && gap.1 - gap.0 > 0.4);
    let (from, to) = *gap.unwrap_or_else(|| panic!("no gap around {ended}: {gaps:?}"));
    let kinds: Vec<&str> = report["events"].as_array().unwrap().iter().filter_map(|it| it["kind"].as_str()).collect();
    assert_eq!(kinds, ["ended", "started", "restart"]);
    // No count within it, and no zeros.
    let points = Run::it("show -o csv --series descriptors").file(&file).done().ok().points();
    assert!(points.iter().all(|(at, value)| *value > 0.0 && !(*at > from && *at < to)), "{points:?} {from} {to}");
}

#[test]
fn a_watch_by_pid_ends_with_it_whatever_else_was_asked() {
    let folder = Folder::new();
    let name = fresh_name();
    let one = sleeper(&folder, &name);
    let _other = sleeper(&folder, &name);
    let file = folder.file("w.unclosed");
    let mut watch = Run::it(format!("watch -p {} -c {name} --every 100ms", one.pid())).output(&file).start();
    watch.line("descriptors");
    one.signal(Signal::KILL);
    one.done();
    watch.done().ok().says(&["ended"]);
    assert_eq!(shown(&file)["target"]["processes"].as_array().unwrap().len(), 1);
}

#[test]
fn another_users_processes_are_selected_by_name_and_those_closed_to_us_are_told() {
    if !is_root() || !has("setpriv") {
        skip!("only root can become somebody else");
    }
    let name = fresh_name();
    let server = Prefork::named(&name, "--leak-per-second 0 --uid 65534");
    let [a, b] = [server.workers[0], server.workers[1]];
    assert_eq!(listed(&format!("-u 65534 -c {name}")).len(), 2);
    let nobody = fs::read_to_string("/etc/passwd").unwrap();
    let nobody =
        nobody.lines().find(|line| line.split(':').nth(2) == Some("65534")).unwrap().split(':').next().unwrap();
    assert_eq!(listed(&format!("-u {nobody},12345 -c {name}")).len(), 2);
    Run::it(format!("list -u ^{nobody} -c {name}")).done().fails(5, &[&name]);

    // As that user: the parent, which is root's, is closed to it; the workers are not.
    let folder = Folder::new();
    let copy = folder.program_for_all();
    let as_nobody = |arguments: &str| {
        let line = format!("{AS_NOBODY} {} {arguments}", copy.display());
        Run::shell(&line).within(folder.path()).env("HOME", folder.path()).env("XDG_STATE_HOME", folder.path())
    };
    for selection in [format!("-p {},{a},{b}", server.pid), format!("-c /prefork.py.*{name}/")] {
        let told = as_nobody(&format!("list --all {selection} -o json")).done().ok();
        let report = told.json();
        assert!(row(&report, a).is_some() && row(&report, b).is_some(), "{:#}", report["target"]);
        assert!(row(&report, a).unwrap()["leaked"].is_null(), "one look judges nothing");
        told.complains(&[&format!("{}", server.pid), "sudo"]);
    }
    let file = folder.file("n.unclosed");
    let watch = format!("record -c /prefork.py.*{name}/ --every 100ms --for 1s --output {}", file.display());
    as_nobody(&watch).done().ok().complains(&[&server.pid.to_string(), "closed to us", "sudo"]);
    let report = shown(&file);
    assert!(row(&report, a).unwrap()["descriptors"].as_u64().unwrap() > 3, "{:#}", report["target"]);
    // Nobody says what the closed one holds: that is unknown, and not none.
    assert!(row(&report, server.pid).is_none_or(|row| row["descriptors"].is_null()), "{:#}", report["target"]);
}

/// A cgroup that goes with the case, made where the kernel and our privilege let us.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounts = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            fields.next().zip(fields.next()).filter(|(_, kind)| kind.starts_with("cgroup"))
        });
        let mut failed = "no cgroup is mounted".to_owned();
        for (mount, _) in mounts.filter(|(mount, _)| !mount.ends_with("cpuset")) {
            let folder = Path::new(mount).join(name);
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Cgroup(folder)),
                Err(error) => failed = format!("{}: {error}", folder.display()),
            }
        }
        Err(failed)
    }

    fn takes(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let empty = || fs::read_to_string(self.0.join("cgroup.procs")).is_ok_and(|text| text.is_empty()).then_some(());
        until("the cgroup to be empty", empty);
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_cgroup_is_followed_with_all_that_is_moved_into_it() {
    let folder = Folder::new();
    let name = fresh_name();
    let cgroup = match Cgroup::make(&name) {
        Ok(cgroup) => cgroup,
        Err(why) => skip!("no cgroup can be made: {why}"),
    };
    let path = cgroup.0.display().to_string();
    Run::it(format!("list --cgroup {path}")).done().fails(5, &["--cgroup", "/proc/PID/cgroup"]);
    let (one, other) = (sleeper(&folder, &name), sleeper(&folder, &name));
    cgroup.takes(one.pid());
    for named in [path.clone(), format!("/{name}"), name.clone()] {
        assert_eq!(listed(&format!("--cgroup {named}")), [one.pid()], "{named}");
    }
    assert_eq!(listed(&format!("--cgroup {path} -c {name}")), [one.pid()]);
    let file = folder.file("g.unclosed");
    let mut record = Run::it(format!("record --cgroup {path} --every 100ms")).output(&file).start();
    record.complaint("Recording to ");
    // It was there before, elsewhere.
    cgroup.takes(other.pid());
    until("the other one to be seen", || row(&shown(&file), other.pid()).map(drop));
    one.signal(Signal::KILL);
    one.done();
    until("the end of the one", || shown(&file)["target"]["processes"][0]["ended"].as_f64());
    record.interrupt().ok();
    other.signal(Signal::KILL);
    other.done();
}

#[test]
fn selectors_that_mean_nothing_or_fit_nobody() {
    for verb in ["list", "watch", "record"] {
        Run::it(format!("{verb} -c /(/")).done().fails(2, &["/(/ is not a regular expression", "'/orders"]);
        Run::it(format!("{verb} -u no-such-user-here")).done().fails(2, &["no-such-user-here", "id -u"]);
        Run::it(format!("{verb} --container orders-db")).done().fails(2, &["orders-db", "docker ps"]);
        Run::it(format!("{verb} --container dead0000beef")).done().fails(5, &["--container dead0000beef", "crictl ps"]);
        Run::it(format!("{verb} --unit no-such-unit")).done().fails(5, &["--unit no-such-unit", "systemctl status"]);
    }
    Run::it("list -c /api").done().fails(2, &["no / at its end"]);
    Run::new(["list", "--cgroup", ""]).done().code(2);
    Run::new(["list", "-c", ""]).done().fails(2, &["every process"]);
}
