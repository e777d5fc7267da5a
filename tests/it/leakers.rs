//! The programs under `tests/leakers`, started, and gone with the case.

use crate::act::{Run, Running, until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

fn leaker(name: &str) -> String {
    format!("{}/tests/leakers/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A client on loopback, and what it leaks.
pub(crate) struct Churn {
    pub(crate) running: Running,
    pub(crate) pid: u32,
    pub(crate) port: u16,
}

impl Churn {
    /// With flags of `churn.py`.
    pub(crate) fn with(flags: &str) -> Self {
        let script = leaker("churn.py");
        let mut running =
            Run::program("python3", [script.as_str()].into_iter().chain(flags.split_whitespace())).start();
        let pid = running.line_that("its pid", |line| line.parse::<u32>().is_ok()).parse().unwrap();
        let server = running.line("server ");
        Churn { running, pid, port: server.rsplit(' ').next().and_then(|port| port.parse().ok()).unwrap() }
    }

    /// The command that runs it, for `sh` and for `run -- CMD`.
    pub(crate) fn command(flags: &str) -> String {
        format!("python3 {} {flags}", leaker("churn.py"))
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// A server whose workers leak, each under the same name.
pub(crate) struct Prefork {
    pub(crate) running: Running,
    /// The parent, which listens and forks.
    pub(crate) pid: u32,
    pub(crate) backend: u32,
    pub(crate) workers: Vec<u32>,
}

impl Prefork {
    /// With two workers of that name, and further flags of `prefork.py`.
    pub(crate) fn named(name: &str, flags: &str) -> Self {
        let mut running =
            Run::program("python3", [leaker("prefork.py")]).and(&format!("--workers 2 --name {name} {flags}")).start();
        let pid = running.line_that("its pid", |line| line.parse::<u32>().is_ok()).parse().unwrap();
        let backend = running.line("backend ").split(' ').nth(1).and_then(|pid| pid.parse().ok()).unwrap();
        let mut server = Prefork { running, pid, backend, workers: Vec::new() };
        server.workers = vec![server.next_worker(), server.next_worker()];
        server
    }

    /// Waits for the next worker that starts.
    pub(crate) fn next_worker(&mut self) -> u32 {
        let line = self.running.line("worker ");
        line.split(' ').nth(1).and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    }
}

/// The path of the script of the PostgreSQL client.
pub(crate) fn pg_leak() -> String {
    leaker("pg_leak.py")
}

/// A process with one descriptor of each kind.
pub(crate) struct Zoo {
    _running: Running,
    pub(crate) pid: u32,
    /// It holds the other ends of some of them.
    pub(crate) child: u32,
    members: BTreeMap<String, i32>,
}

impl Zoo {
    pub(crate) fn open() -> Self {
        let mut running = Run::program("python3", [leaker("zoo.py")]).start();
        let told = running.line_that("its members", |line| line.starts_with('{'));
        running.line("ready");
        let told: Value = serde_json::from_str(&told).unwrap();
        let members = serde_json::from_value(told["open"].clone()).unwrap();
        let [pid, child] = ["pid", "child"].map(|name| told[name].as_u64().unwrap() as u32);
        let zoo = Zoo { _running: running, pid, child, members };
        // The answer to a FIN may take the kernel a moment.
        until("the half closed connections to have been acknowledged", || {
            let tables = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/{}/net/{name}", zoo.pid)));
            let inodes: BTreeSet<String> = zoo.members.values().filter_map(|fd| zoo.inode(*fd)).collect();
            let waits = |line: &str| {
                let cells: Vec<&str> = line.split_whitespace().collect();
                cells.get(3) == Some(&"04") && cells.get(9).is_some_and(|inode| inodes.contains(*inode))
            };
            let waiting = tables.into_iter().filter_map(Result::ok).any(|table| table.lines().any(waits));
            (!waiting).then_some(())
        });
        zoo
    }

    fn inode(&self, fd: i32) -> Option<String> {
        let link = std::fs::read_link(format!("/proc/{}/fd/{fd}", self.pid)).ok()?;
        Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())
    }

    /// The descriptor of a member; `None` where it could not be opened here.
    pub(crate) fn fd(&self, member: &str) -> Option<i32> {
        self.members.get(member).copied()
    }

    /// The descriptors of those members whose names are so.
    pub(crate) fn fds(&self, wanted: impl Fn(&str) -> bool) -> BTreeSet<i32> {
        self.members.iter().filter(|(name, _)| wanted(name)).map(|(_, fd)| *fd).collect()
    }

    /// The member with that descriptor, for a message.
    pub(crate) fn member(&self, fd: i32) -> &str {
        self.members.iter().find(|(_, its)| **its == fd).map_or("no member", |(name, _)| name)
    }
}

/// A process that has forked, and what it shares with its child.
pub(crate) struct Shared {
    pub(crate) running: Running,
    pub(crate) child: u32,
    /// The descriptor of each thing, the same in both.
    pub(crate) open: BTreeMap<String, u64>,
}

impl Shared {
    pub(crate) fn open() -> Self {
        let mut running = Run::program("python3", [leaker("shared.py")]).start();
        let told = running.line_that("what is shared", |line| line.starts_with('{'));
        running.line("ready");
        let told: Value = serde_json::from_str(&told).unwrap();
        let open = serde_json::from_value(told["open"].clone()).unwrap();
        Shared { running, child: told["child"].as_u64().unwrap() as u32, open }
    }
}
