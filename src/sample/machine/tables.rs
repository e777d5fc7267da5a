//! What each process holds without any privilege to load programs: the socket tables once, then one walk over the
//! descriptors that we may read.
//!
//! Of a process that is closed to us `st_size` of `/proc/PID/fd` still tells how many descriptors it has, to everybody
//! (Linux 6.2 or later; 0 before).

use crate::model::{Kind, ProcessHoldings, State};
use crate::sample::procfs::{ProcFs, user_name};
use crate::sample::sockets::{Netlink, SocketRow};
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw, stat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names of a folder's entries that are read at once, in bytes.
const FOLDER_BYTES: usize = 32_768;

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
    folder: Vec<u8>,
}

/// A socket, and whether some process was found to hold it.
#[derive(Debug)]
struct Row {
    socket: SocketRow,
    held: bool,
}

/// What a walk over a process' descriptors found.
#[derive(Default)]
struct Walk {
    holdings: ProcessHoldings,
    /// Sockets that no table lists.
    unlisted: u64,
}

/// What a pass could not see.
#[derive(Default)]
struct Unseen {
    /// Processes whose descriptors we may not look at.
    closed: u64,
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
            folder: Vec::with_capacity(FOLDER_BYTES),
        }
    }

    pub(super) fn source(&self) -> &'static str {
        if self.diag.is_ok() { "/proc/PID/fd and sock_diag" } else { "/proc/PID/fd alone" }
    }

    /// What each process that holds something holds; a sentence for each kind of thing that could not be seen.
    pub(super) fn read(&mut self, silent: Duration, notes: &mut Vec<String>) -> Vec<ProcessHoldings> {
        let listed = self.read_rows(notes);
        let mut unseen = Unseen::default();
        let mut all = Vec::new();
        for pid in self.proc.pids() {
            if let Some(holdings) = self.process(pid, silent, listed, &mut unseen) {
                all.push(holdings);
            }
        }
        self.tell(&unseen, notes);
        all
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

    /// `None` where the process has ended or holds nothing.
    fn process(&mut self, pid: u32, silent: Duration, listed: bool, unseen: &mut Unseen) -> Option<ProcessHoldings> {
        let folder = self.proc.folder(pid);
        let counted = if self.sizes_count { Some(descriptors_by_size(&folder).ok()?) } else { None };
        // A kernel thread, or one that has ended and waits for its parent.
        if counted == Some(0) {
            return None;
        }
        match self.walk(&folder, silent) {
            Ok(walk) if walk.holdings.descriptors == Some(0) => None,
            Ok(Walk { holdings, unlisted }) => {
                let elsewhere = listed && unlisted > 0 && self.is_elsewhere(&folder);
                unseen.elsewhere += u64::from(elsewhere);
                let holdings = ProcessHoldings { pid, ..holdings };
                Some(if listed && !elsewhere {
                    holdings
                } else {
                    ProcessHoldings { connections: None, silent: None, close_wait: None, listening: None, ..holdings }
                })
            }
            Err(Errno::ACCESS | Errno::PERM) => {
                unseen.closed += 1;
                Some(ProcessHoldings { pid, descriptors: counted, ..ProcessHoldings::default() })
            }
            Err(_) => None,
        }
    }

    /// Counts a process' descriptors by what their links say.
    fn walk(&mut self, folder: &Path, silent: Duration) -> Result<Walk, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, folder.join("fd"), flags, Mode::empty())?;
        let (mut descriptors, mut sockets, mut unlisted) = (0, 0, 0);
        let (mut connections, mut silent_ones, mut close_wait, mut listening) = (0, 0, 0, 0);
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
            descriptors += 1;
            let Some(inode) = socket_inode(&link[..length]) else { continue };
            sockets += 1;
            let Some(row) = self.rows.get_mut(&inode) else {
                unlisted += 1;
                continue;
            };
            row.held = true;
            let SocketRow { connected, state, silent_seconds, .. } = row.socket;
            connections += u64::from(connected);
            silent_ones += u64::from(connected && silent_seconds.is_some_and(|it| it > silent.as_secs_f64()));
            close_wait += u64::from(state == Some(State::CloseWait));
            listening += u64::from(state == Some(State::Listen));
        }
        let holdings = ProcessHoldings {
            pid: 0,
            descriptors: Some(descriptors),
            sockets: Some(sockets),
            connections: Some(connections),
            silent: Some(silent_ones),
            close_wait: Some(close_wait),
            listening: Some(listening),
        };
        Ok(Walk { holdings, unlisted })
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
        if unseen.closed == 0 {
            return;
        }
        let what = if self.sizes_count { "only their descriptors are counted" } else { "nothing of them is counted" };
        let processes = counted(unseen.closed, "process is", "processes are");
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
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("starts");
        let folder = proc.folder(child.id());
        // Until it has become `sleep` and waits, which opens nothing more.
        while !proc.stat(child.id()).is_ok_and(|stat| stat.comm == "sleep" && stat.state == 'S') {}
        let walk = tables.walk(&folder, Duration::from_secs(60)).expect("walks");
        assert_eq!(descriptors_by_size(&folder).ok(), walk.holdings.descriptors);
        child.kill().expect("killed");
        child.wait().expect("ends");
    }

    #[test]
    fn users_beyond_the_first_few_are_added_up() {
        let all = (4_000_000_000..4_000_000_005).zip([1, 2, 30, 4, 5]).collect();
        assert_eq!(users(all), "4000000002 30, 4000000004 5, 4000000003 4, others 3");
    }
}
