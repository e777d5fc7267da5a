//! What each process holds without any privilege to load programs: the socket tables once, joined to the descriptors that
//! we may read.
//!
//! A walk over a process' descriptors costs more than all else, so what it found is remembered for as long as nothing
//! speaks against it: the number of descriptors is the same, and each socket it led to is still in the tables. A socket
//! that nobody is known to hold makes everyone be walked again, and so does time.
//!
//! Of a process that is closed to us `st_size` of `/proc/PID/fd` still tells how many descriptors it has, to everybody
//! (Linux 6.2 or later; 0 before, and then every pass walks).

use crate::model::{Kind, ProcessHoldings, State};
use crate::sample::procfs::{ProcFs, user_name};
use crate::sample::sockets::{Netlink, SocketRow};
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw, stat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names of a folder's entries that are read at once, in bytes.
const FOLDER_BYTES: usize = 32_768;

/// What a walk found is believed for so many passes at most: a descriptor may have been replaced by another one of a
/// socket that was there before.
const BELIEVED_PASSES: u64 = 12;

/// Users that a note names; the others are added up.
const USERS_MAX: usize = 3;

/// The tables and the walk.
#[derive(Debug)]
pub(super) struct Tables {
    proc: ProcFs,
    /// Or why they can't be had.
    diag: Result<Netlink, String>,
    own_namespace: Option<PathBuf>,
    /// Whether the size of an `fd` folder is the number of descriptors in it.
    sizes_count: bool,
    /// The rows of this pass by inode; kept for its room.
    rows: HashMap<u64, Row>,
    /// What the processes were found to hold.
    found: HashMap<u32, Found>,
    /// Sockets that nobody was found to hold when all were walked: those of processes that are closed to us.
    nobodys: HashSet<u64>,
    passes: u64,
    folder: Vec<u8>,
}

/// A socket, and whether some process was found to hold it.
#[derive(Debug)]
struct Row {
    socket: SocketRow,
    held: bool,
}

/// What a walk over a process' descriptors found.
#[derive(Debug, Default)]
struct Found {
    /// The pass that walked.
    pass: u64,
    descriptors: u64,
    /// The inodes of the sockets among them, one for each descriptor.
    sockets: Vec<u64>,
    /// How many of these no table lists.
    unlisted: usize,
    /// Holds such sockets because it is in another network namespace.
    elsewhere: bool,
}

/// What a pass could not see.
#[derive(Default)]
struct Unseen {
    /// Processes whose descriptors we may not look at.
    closed: HashSet<u32>,
    /// Processes that hold sockets of another network namespace.
    elsewhere: u64,
}

impl Tables {
    pub(super) fn new(proc: &ProcFs) -> Self {
        let real = proc.root() == Path::new("/proc");
        let diag = if real { Netlink::open().map_err(|error| error.to_string()) } else { Err("not asked".to_owned()) };
        Tables {
            diag,
            own_namespace: fs::read_link("/proc/self/ns/net").ok(),
            sizes_count: real && descriptors_by_size("/proc/self".as_ref()).is_ok_and(|count| count > 0),
            proc: proc.clone(),
            rows: HashMap::new(),
            found: HashMap::new(),
            nobodys: HashSet::new(),
            passes: 0,
            folder: Vec::with_capacity(FOLDER_BYTES),
        }
    }

    pub(super) fn source(&self) -> &'static str {
        if self.diag.is_ok() { "/proc/PID/fd and sock_diag" } else { "/proc/PID/fd alone" }
    }

    /// What each process that holds something holds; a sentence for each kind of thing that could not be seen.
    pub(super) fn read(&mut self, silent: Duration, notes: &mut Vec<String>) -> Vec<ProcessHoldings> {
        self.passes += 1;
        let listed = self.read_rows(notes);
        let sizes = self.sizes();
        self.found.retain(|pid, _| sizes.contains_key(pid));
        let mut unseen = Unseen::default();
        let changed: Vec<u32> =
            sizes.iter().filter(|(pid, size)| !self.is_believed(**pid, **size)).map(|(pid, _)| *pid).collect();
        for pid in changed {
            self.walk(pid, &mut unseen);
        }
        self.mark_held();
        if self.rows.iter().any(|(inode, row)| !row.held && !self.nobodys.contains(inode)) {
            let believed: Vec<u32> =
                self.found.iter().filter(|(_, it)| it.pass != self.passes).map(|(pid, _)| *pid).collect();
            for pid in believed {
                self.walk(pid, &mut unseen);
            }
            self.mark_held();
            self.nobodys = self.rows.iter().filter(|(_, row)| !row.held).map(|(inode, _)| *inode).collect();
        }
        unseen.elsewhere = self.found.values().filter(|it| it.elsewhere).count() as u64;
        self.tell(&unseen, notes);
        sizes.into_iter().filter_map(|(pid, size)| self.count(pid, size, silent, listed, &unseen)).collect()
    }

    /// The processes that hold something, and how many descriptors where the folder's size tells. Kernel threads hold none.
    fn sizes(&self) -> HashMap<u32, Option<u64>> {
        let size = |pid: u32| match self.sizes_count {
            true => descriptors_by_size(&self.proc.folder(pid)).ok().filter(|size| *size > 0).map(Some),
            false => Some(None),
        };
        self.proc.pids().into_iter().filter_map(|pid| Some((pid, size(pid)?))).collect()
    }

    /// Whether what was found is taken as what is: see the head of this file.
    fn is_believed(&self, pid: u32, size: Option<u64>) -> bool {
        let Some(found) = self.found.get(&pid) else { return false };
        // Not all in the same pass.
        let is_due = (self.passes + u64::from(pid)).is_multiple_of(BELIEVED_PASSES);
        let listed = || found.sockets.iter().filter(|inode| self.rows.contains_key(inode)).count();
        !is_due && size == Some(found.descriptors) && listed() + found.unlisted == found.sockets.len()
    }

    fn mark_held(&mut self) {
        for inode in self.found.values().flat_map(|found| &found.sockets) {
            if let Some(row) = self.rows.get_mut(inode) {
                row.held = true;
            }
        }
    }

    /// Dumps the tables; false where they can't be had.
    fn read_rows(&mut self, notes: &mut Vec<String>) -> bool {
        let rows = &mut self.rows;
        rows.clear();
        let read = match &mut self.diag {
            Ok(diag) => diag
                .read_all(|socket| {
                    rows.insert(socket.inode, Row { socket, held: false });
                })
                .map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        if let Err(why) = &read {
            notes.push(format!("the socket tables can't be read ({why}): sockets are counted, connections are not"));
        }
        read.is_ok()
    }

    /// Walks a process' descriptors and remembers what they lead to. One that is gone or closed to us is forgotten.
    fn walk(&mut self, pid: u32, unseen: &mut Unseen) {
        self.found.remove(&pid);
        let folder = self.proc.folder(pid);
        match self.look_into(&folder) {
            Ok(mut found) => {
                found.unlisted = found.sockets.iter().filter(|inode| !self.rows.contains_key(inode)).count();
                found.elsewhere = found.unlisted > 0 && self.is_elsewhere(&folder);
                self.found.insert(pid, found);
            }
            Err(Errno::ACCESS | Errno::PERM) => {
                unseen.closed.insert(pid);
            }
            Err(_) => {}
        }
    }

    /// The descriptors of the process with this folder.
    fn look_into(&mut self, folder: &Path) -> Result<Found, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, folder.join("fd"), flags, Mode::empty())?;
        let mut found = Found { pass: self.passes, ..Found::default() };
        let mut entries = RawDir::new(&opened, self.folder.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if entry.file_name().to_bytes().starts_with(b".") {
                continue;
            }
            // A socket's link is far shorter; of a longer one the beginning says that it is none.
            let mut link = [0u8; 64];
            let length = match readlinkat_raw(&opened, entry.file_name(), &mut link) {
                Ok(length) => length,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            };
            found.descriptors += 1;
            found.sockets.extend(socket_inode(&link[..length]));
        }
        Ok(found)
    }

    /// Counts by what the tables say now; `None` where the process has ended.
    fn count(
        &self,
        pid: u32,
        size: Option<u64>,
        silent: Duration,
        listed: bool,
        unseen: &Unseen,
    ) -> Option<ProcessHoldings> {
        let Some(found) = self.found.get(&pid) else {
            let closed = ProcessHoldings { pid, descriptors: size, ..ProcessHoldings::default() };
            return unseen.closed.contains(&pid).then_some(closed);
        };
        if found.descriptors == 0 {
            return None;
        }
        let (descriptors, sockets) = (Some(found.descriptors), Some(found.sockets.len() as u64));
        if !listed || found.elsewhere {
            return Some(ProcessHoldings { pid, descriptors, sockets, ..ProcessHoldings::default() });
        }
        let (mut connections, mut silent_ones, mut close_wait, mut listening) = (0, 0, 0, 0);
        for row in found.sockets.iter().filter_map(|inode| self.rows.get(inode)) {
            let SocketRow { connected, state, silent_seconds, .. } = row.socket;
            connections += u64::from(connected);
            silent_ones += u64::from(connected && silent_seconds.is_some_and(|it| it > silent.as_secs_f64()));
            close_wait += u64::from(state == Some(State::CloseWait));
            listening += u64::from(state == Some(State::Listen));
        }
        Some(ProcessHoldings {
            pid,
            descriptors,
            sockets,
            connections: Some(connections),
            silent: Some(silent_ones),
            close_wait: Some(close_wait),
            listening: Some(listening),
        })
    }

    /// True for a process of another network namespace than our own, as far as we may see.
    fn is_elsewhere(&self, folder: &Path) -> bool {
        let namespace = fs::read_link(folder.join("ns/net")).ok();
        namespace.zip(self.own_namespace.as_ref()).is_some_and(|(its, own)| its != *own)
    }

    /// Says what was not seen.
    fn tell(&self, unseen: &Unseen, notes: &mut Vec<String>) {
        if unseen.elsewhere > 0 {
            let processes = counted(unseen.elsewhere, "process", "processes");
            notes.push(format!(
                "{processes} in other network namespaces: what they hold is counted, their connections are not"
            ));
        }
        if unseen.closed.is_empty() {
            return;
        }
        let what = if self.sizes_count { "only their descriptors are counted" } else { "nothing of them is counted" };
        let processes = counted(unseen.closed.len() as u64, "process is", "processes are");
        let mut note = format!("{processes} closed to us, {what}");
        let mut by_user: BTreeMap<u32, u64> = BTreeMap::new();
        let unheld = self.rows.values().filter(|row| !row.held && row.socket.kind != Kind::Unix);
        for uid in unheld.filter_map(|row| row.socket.uid) {
            *by_user.entry(uid).or_default() += 1;
        }
        if !by_user.is_empty() {
            let sockets = counted(by_user.values().sum(), "internet socket is", "internet sockets are");
            note.push_str(&format!("; {sockets} held by them or by nobody, by user: {}", users(by_user)));
        }
        // Root without this capability sees no process that has more of them than it has itself.
        let mends = if geteuid().is_root() { "CAP_SYS_PTRACE" } else { "sudo" };
        note.push_str(&format!("; {mends} shows what they hold"));
        notes.push(note);
    }
}

/// The number of descriptors of the process with this folder, by the size of its `fd` (`fs/proc/fd.c`, `proc_fd_getattr`).
fn descriptors_by_size(folder: &Path) -> Result<u64, Errno> {
    Ok(stat(folder.join("fd"))?.st_size.unsigned_abs())
}

/// The number in `socket:[219232]`.
fn socket_inode(link: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The users with the most of them.
fn users(by_user: BTreeMap<u32, u64>) -> String {
    let mut most: Vec<(u32, u64)> = by_user.into_iter().collect();
    most.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest: u64 = most.iter().skip(USERS_MAX).map(|(_, count)| count).sum();
    let named = most.iter().take(USERS_MAX);
    let mut words: Vec<String> =
        named.map(|(uid, count)| format!("{} {count}", user_name(*uid).unwrap_or_else(|| uid.to_string()))).collect();
    if rest > 0 {
        words.push(format!("others {rest}"));
    }
    words.join(", ")
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn a_link_is_a_sockets_or_not() {
        let of = |link: &str| socket_inode(link.as_bytes());
        assert_eq!(
            [of("socket:[219232]"), of("/tmp/socket:[7]"), of("socket:[7"), of("pipe:[7]")],
            [Some(219_232), None, None, None]
        );
    }

    #[test]
    fn the_size_of_our_folder_is_what_a_walk_counts() {
        let proc = ProcFs::system();
        let mut tables = Tables::new(&proc);
        if !tables.sizes_count {
            eprintln!("SKIPPED: this kernel doesn't tell the number of descriptors");
            return;
        }
        // Other tests of this process open and close descriptors: the child is by itself.
        let mut child = Command::new("sleep").arg("60").spawn().expect("starts");
        let folder = proc.folder(child.id());
        // Until it has become `sleep` and waits, which opens nothing more.
        while !proc.stat(child.id()).is_ok_and(|stat| stat.comm == "sleep" && stat.state == 'S') {}
        let found = tables.look_into(&folder).expect("walks");
        assert_eq!(descriptors_by_size(&folder).ok(), Some(found.descriptors));
        child.kill().expect("killed");
        child.wait().expect("ends");
    }

    /// What is remembered must not hide what has changed, also where the number of descriptors has not.
    #[test]
    fn what_was_found_is_believed_only_while_nothing_speaks_against_it() {
        let script = "import socket, sys\n\
                      first = socket.create_server(('127.0.0.1', 0))\n\
                      for line in sys.stdin:\n    second = socket.create_server(('127.0.0.1', 0)) if line == 'more\\n' else None\n    \
                      if line == 'swap\\n': first = first.close() or open('/dev/null')\n    print(flush=True)";
        let started = Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.expect("starts");
        let mut says = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut hears = child.stdin.take().expect("a pipe");
        let mut does = |what: &str| {
            writeln!(hears, "{what}").expect("told");
            says.read_line(&mut String::new()).expect("done");
        };
        does("less");
        let mut tables = Tables::new(&ProcFs::system());
        let pid = child.id();
        let mut look = || {
            let all = tables.read(Duration::from_secs(60), &mut Vec::new());
            let it = all.into_iter().find(|it| it.pid == pid).expect("it runs");
            (it.descriptors.map(|all| all as i64), it.listening)
        };
        let (before, listening) = look();
        assert_eq!(listening, Some(1));
        does("more");
        assert_eq!(look(), (before.map(|all| all + 1), Some(2)));
        does("less");
        does("swap");
        assert_eq!(look(), (before, Some(0)), "as many descriptors, another one among them");
        child.kill().expect("killed");
        child.wait().expect("ends");
    }

    #[test]
    fn users_beyond_the_first_few_are_added_up() {
        let all = (4_000_000_000..4_000_000_005).zip([1, 2, 30, 4, 5]).collect();
        assert_eq!(users(all), "4000000002 30, 4000000004 5, 4000000003 4, others 3");
    }
}
