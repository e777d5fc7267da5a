//! `/proc`, read under a root that tests replace by a tree of their own.
//!
//! Formats: proc(5), `fs/proc/array.c`, `fs/proc/base.c` of Linux.

use crate::model::{Process, ProcessId, Timestamp};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// In a process' flags, from the begin of its `exit`.
const PF_EXITING: u64 = 0x4;
/// There, too: a thread of the kernel's own.
const PF_KTHREAD: u64 = 0x20_0000;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The process has ended.
    #[error("process {0} has ended")]
    Gone(u32),
    /// We may not.
    #[error("cannot read {path}: permission denied")]
    Denied {
        /// What could not be read.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot read {path}: {source}")]
    Io {
        /// What could not be read.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{path}, line {line}: {item} is not {expected}: {text:?}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line in it, from 1.
        line: usize,
        /// What was looked for.
        item: &'static str,
        /// What it should have been.
        expected: &'static str,
        /// What stood there.
        text: String,
    },
}

impl ReadError {
    /// Classifies a failure on a file of process `pid`.
    pub fn of_process(pid: u32, path: &Path, source: io::Error) -> Self {
        match (source.kind(), source.raw_os_error()) {
            // A pid that vanishes between two reads: ENOENT at open, ESRCH at read.
            (io::ErrorKind::NotFound, _) | (_, Some(3)) => ReadError::Gone(pid),
            (io::ErrorKind::PermissionDenied, _) => ReadError::Denied { path: path.to_owned() },
            _ => ReadError::Io { path: path.to_owned(), source },
        }
    }
}

/// The fields of `/proc/PID/stat` that we use.
#[derive(Clone, Debug, PartialEq)]
pub struct Stat {
    /// The short name.
    pub comm: String,
    /// The state's letter; `Z` and `X` have ended but for their parent.
    pub state: char,
    /// The parent.
    pub ppid: u32,
    /// It is ending, or has ended: its memory and descriptors are going or gone.
    pub ending: bool,
    /// It is one of the kernel's own threads, which hold nothing open.
    pub is_kernel_thread: bool,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

/// The lines of `/proc/PID/status` that we use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// The short name, as far as it is printable: what `stat` has in parentheses, with odd characters escaped.
    pub name: String,
    /// The effective user.
    pub uid: u32,
    /// Resident memory in bytes; `None` for a kernel thread or a process that is ending.
    pub rss_bytes: Option<u64>,
    /// The anonymous part of it in bytes (Linux 4.5 or later).
    pub anonymous_bytes: Option<u64>,
    /// How many threads.
    pub threads: u64,
}

/// `/proc`, or a tree that looks like it.
#[derive(Clone, Debug)]
pub struct ProcFs {
    root: PathBuf,
    /// Where cgroups are mounted: `sys/fs/cgroup` beside the root.
    cgroups: PathBuf,
    boot_id: Arc<str>,
    /// When the machine started, by today's wall clock, in seconds.
    boot_seconds: f64,
    ticks_per_second: f64,
}

impl ProcFs {
    /// The real one.
    pub fn system() -> Self {
        ProcFs::at(PathBuf::from("/proc"))
    }

    /// A tree elsewhere. What is missing in it of the machine as a whole (boot id, boot time) is taken as empty and 0.
    pub fn at(root: PathBuf) -> Self {
        let text = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
        let boot_id = Arc::from(text("sys/kernel/random/boot_id").trim());
        let boot_seconds =
            text("stat").lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0.0);
        ProcFs {
            boot_id,
            boot_seconds,
            ticks_per_second: rustix::param::clock_ticks_per_second() as f64,
            cgroups: root.with_file_name("sys").join("fs/cgroup"),
            root,
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A process' folder.
    pub fn folder(&self, pid: u32) -> PathBuf {
        self.root.join(pid.to_string())
    }

    /// The text of a file of a process. Bytes that are no UTF-8 are replaced.
    pub fn text(&self, pid: u32, name: &str) -> Result<String, ReadError> {
        let path = self.folder(pid).join(name);
        read_text(&path).map_err(|source| ReadError::of_process(pid, &path, source))
    }

    /// `/proc/PID/stat`.
    pub fn stat(&self, pid: u32) -> Result<Stat, ReadError> {
        self.stat_in(pid, "stat")
    }

    /// A `stat` of a process or of one of its threads, by its name in the process' folder.
    fn stat_in(&self, pid: u32, name: &str) -> Result<Stat, ReadError> {
        let text = self.text(pid, name)?;
        let parse = |item, expected| ReadError::Parse {
            path: self.folder(pid).join(name),
            line: 1,
            item,
            expected,
            text: text.trim_end().to_owned(),
        };
        // The name stands in parentheses and may hold any of them, so the last one ends it.
        let name = text.find('(').zip(text.rfind(')')).filter(|(open, close)| open < close);
        let (open, close) = name.ok_or_else(|| parse("the name", "in parentheses"))?;
        let fields: Vec<&str> = text[close + 1..].split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        let state = field(3).and_then(|state| state.chars().next()).ok_or_else(|| parse("field 3", "a state"))?;
        let flags: u64 = field(9).and_then(|flags| flags.parse().ok()).unwrap_or(0);
        Ok(Stat {
            comm: text[open + 1..close].to_owned(),
            state,
            ending: matches!(state, 'Z' | 'X') || flags & PF_EXITING != 0,
            is_kernel_thread: flags & PF_KTHREAD != 0,
            ppid: field(4).and_then(|ppid| ppid.parse().ok()).ok_or_else(|| parse("field 4", "a pid"))?,
            start_ticks: field(22)
                .and_then(|ticks| ticks.parse().ok())
                .ok_or_else(|| parse("field 22", "a number of clock ticks"))?,
        })
    }

    /// `/proc/PID/status`.
    pub fn status(&self, pid: u32) -> Result<Status, ReadError> {
        let text = self.text(pid, "status")?;
        let mut status = Status::default();
        for (number, line) in text.lines().enumerate() {
            let Some((key, rest)) = line.split_once(':') else { continue };
            let mut words = rest.split_ascii_whitespace();
            let mut nth = |nth: usize| -> Result<u64, ReadError> {
                words.nth(nth).and_then(|word| word.parse().ok()).ok_or_else(|| ReadError::Parse {
                    path: self.folder(pid).join("status"),
                    line: number + 1,
                    item: "its value",
                    expected: "a number",
                    text: line.to_owned(),
                })
            };
            match key {
                "Name" => status.name = rest.trim().to_owned(),
                "Uid" => status.uid = nth(1)? as u32,
                "VmRSS" => status.rss_bytes = Some(nth(0)? * 1024),
                "RssAnon" => status.anonymous_bytes = Some(nth(0)? * 1024),
                "Threads" => status.threads = nth(0)?,
                _ => {}
            }
        }
        Ok(status)
    }

    /// Names the process that has this pid now; a zombie has ended.
    pub fn identify(&self, pid: u32) -> Result<ProcessId, ReadError> {
        let stat = self.stat(pid)?;
        if matches!(stat.state, 'Z' | 'X') && !self.has_living_thread(pid) {
            return Err(ReadError::Gone(pid));
        }
        Ok(ProcessId { boot_id: self.boot_id.clone(), pid, start_ticks: stat.start_ticks })
    }

    /// The lasting name of a process that started so many nanoseconds after the machine.
    pub(super) fn name_of(&self, pid: u32, started_ns: u64) -> ProcessId {
        let start_ticks = started_ns / (1_000_000_000 / self.ticks_per_second as u64).max(1);
        ProcessId { boot_id: self.boot_id.clone(), pid, start_ticks }
    }

    /// When it started, by the wall clock.
    pub(super) fn started(&self, id: &ProcessId) -> Timestamp {
        Timestamp::from_seconds(self.boot_seconds + id.start_ticks as f64 / self.ticks_per_second)
    }

    /// True where some thread runs on: of a process whose first thread has ended, which then looks like one that has.
    pub(super) fn has_living_thread(&self, pid: u32) -> bool {
        let threads = fs::read_dir(self.folder(pid).join("task")).into_iter().flatten().flatten();
        let mut stats =
            threads.filter_map(|it| self.stat_in(pid, &format!("task/{}/stat", it.file_name().to_str()?)).ok());
        stats.any(|stat| !stat.ending)
    }

    /// Whether a process is ending or has ended.
    pub fn is_ending(&self, pid: u32) -> bool {
        match self.stat(pid) {
            Ok(stat) => stat.ending && !self.has_living_thread(pid),
            Err(error) => matches!(error, ReadError::Gone(_)),
        }
    }

    /// What is known of a process. Fails where it has ended, also where its pid is another process' by now.
    pub fn process(&self, id: &ProcessId) -> Result<Process, ReadError> {
        let stat = self.stat(id.pid)?;
        let has_ended = matches!(stat.state, 'Z' | 'X') && !self.has_living_thread(id.pid);
        if stat.start_ticks != id.start_ticks || has_ended {
            return Err(ReadError::Gone(id.pid));
        }
        let Status { uid, name, .. } = self.status(id.pid)?;
        let command = self.text(id.pid, "cmdline").unwrap_or_default();
        let command = command.trim_end_matches('\0').replace('\0', " ");
        Ok(Process {
            command: if command.is_empty() { name.clone() } else { command },
            name,
            uid,
            user: user_name(uid).unwrap_or_else(|| uid.to_string()),
            started: self.started(id),
            ended: None,
            id: id.clone(),
        })
    }

    /// The effective user's id, as the owner of the process' folder (`task_dump_owner` in `fs/proc/base.c`): what `status`
    /// says, for a tenth of its price. `None` where the process has ended.
    pub fn owner(&self, pid: u32) -> Option<u32> {
        Some(fs::metadata(self.folder(pid)).ok()?.uid())
    }

    /// Every pid there is.
    pub fn pids(&self) -> Vec<u32> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// The children of a process: those of each of its threads, from `/proc/PID/task/TID/children`, or by asking every
    /// process for its parent where the kernel was built without that file.
    pub fn children(&self, pid: u32) -> Vec<u32> {
        let task = self.folder(pid).join("task");
        let threads = fs::read_dir(&task).into_iter().flatten().flatten();
        let mut children = Vec::new();
        for thread in threads {
            match fs::read_to_string(thread.path().join("children")) {
                Ok(text) => children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
                Err(error) if error.kind() == io::ErrorKind::NotFound && thread.path().exists() => {
                    let is_child = |child: &u32| self.stat(*child).is_ok_and(|stat| stat.ppid == pid);
                    return self.pids().into_iter().filter(is_child).collect();
                }
                Err(_) => {}
            }
        }
        children
    }

    /// How many descriptors a process has: what `stat` says of the folder (Linux 6.2 or later), else the entries in it. `None`
    /// where neither may be read.
    pub fn descriptor_count(&self, pid: u32) -> Option<u64> {
        let folder = self.folder(pid).join("fd");
        // Elsewhere than in the kernel's /proc the size is that of the folder itself.
        let told = fs::metadata(&folder).ok()?.len();
        if told > 0 && self.root == Path::new("/proc") {
            return Some(told);
        }
        Some(fs::read_dir(&folder).ok()?.count() as u64)
    }

    /// The soft limit on descriptors (`RLIMIT_NOFILE`); `None` where it is unlimited or can't be read.
    pub fn descriptor_limit(&self, pid: u32) -> Option<u64> {
        let text = self.text(pid, "limits").ok()?;
        let line = text.lines().find(|line| line.starts_with("Max open files"))?;
        line["Max open files".len()..].split_ascii_whitespace().next()?.parse().ok()
    }

    /// The memory limit of the process in bytes: the tightest of its cgroup's and of those around it, for systemd and
    /// Kubernetes also limit a slice or a pod as a whole. `None` where none limits it.
    pub fn memory_limit(&self, pid: u32) -> Option<u64> {
        let text = self.text(pid, "cgroup").ok()?;
        let limits = text.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            match controllers {
                "" => tightest_limit(&self.cgroups, path, "memory.max"),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    tightest_limit(&self.cgroups.join("memory"), path, "memory.limit_in_bytes")
                }
                _ => None,
            }
        });
        limits.min()
    }
}

/// A small file that says 0 of its size, as all under `/proc` do: one read, where asking for more and more would take eight.
/// Bytes that are no UTF-8 are replaced.
fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(4_096);
    // `take` keeps the standard library from asking for the size first.
    fs::File::open(path)?.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The smallest number in the files of this name from a cgroup up to the root, which in a container is the container's.
fn tightest_limit(base: &Path, cgroup: &str, file: &str) -> Option<u64> {
    // Outside the container that we are in: what we see there is around us, not around the process.
    if cgroup.starts_with("/..") {
        return None;
    }
    let limits = Path::new(cgroup).ancestors().filter_map(|folder| {
        let folder = base.join(folder.strip_prefix("/").unwrap_or(folder));
        let limit: u64 = read_text(&folder.join(file)).ok()?.trim().parse().ok()?;
        // cgroup v1 writes "no limit" as the largest multiple of a page; v2 as `max`, which is no number.
        Some(limit).filter(|limit| *limit < 1 << 62)
    });
    limits.min()
}

/// A user's name from `/etc/passwd`.
pub(super) fn user_name(uid: u32) -> Option<String> {
    user_that(|_, its| its == uid).map(|(name, _)| name)
}

/// The id of the user of that name in `/etc/passwd`.
pub(super) fn user_id(name: &str) -> Option<u32> {
    user_that(|its, _| its == name).map(|(_, uid)| uid)
}

fn user_that(is_wanted: impl Fn(&str, u32) -> bool) -> Option<(String, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        is_wanted(name, uid).then(|| (name.to_owned(), uid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, ProcFs) {
        let folder = tempfile::tempdir().expect("a scratch folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        let proc = ProcFs::at(folder.path().to_owned());
        (folder, proc)
    }

    const STAT: &str = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 5 0 12345 1000 200 0";

    #[test]
    fn a_name_may_hold_parentheses_and_spaces() {
        let (_folder, proc) = tree(&[("7/stat", STAT)]);
        let stat = proc.stat(7).expect("parses");
        assert_eq!((stat.comm.as_str(), stat.state, stat.ppid, stat.start_ticks), ("a) b (c", 'S', 1, 12345));
    }

    #[test]
    fn a_truncated_line_names_file_line_and_item() {
        let (_folder, proc) = tree(&[("7/stat", "7 (a) S 1 7"), ("7/status", "Name:\ta\nVmRSS:\t\n")]);
        let error = proc.stat(7).expect_err("is cut").to_string();
        assert!(error.contains("7/stat, line 1: field 22 is not a number of clock ticks"), "{error}");
        let error = proc.status(7).expect_err("is cut").to_string();
        assert!(error.contains("7/status, line 2"), "{error}");
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_understood_or_an_error() {
        let status = "Name:\ta\nUid:\t1\t2\t3\t4\nVmRSS:\t 10 kB\nRssAnon:\t 5 kB\nThreads:\t3\n";
        for cut in 0..STAT.len() {
            let (_folder, proc) = tree(&[("7/stat", &STAT[..cut])]);
            match proc.stat(7) {
                Ok(stat) => assert!(stat.start_ticks > 0 && cut > STAT.find("12345").expect("is there")),
                Err(error) => assert!(matches!(error, ReadError::Parse { .. }), "{error}"),
            }
        }
        for cut in 0..status.len() {
            let (_folder, proc) = tree(&[("7/status", &status[..cut])]);
            let read = proc.status(7);
            assert!(matches!(read, Ok(_) | Err(ReadError::Parse { .. })), "{read:?}");
        }
    }

    #[test]
    fn a_pid_of_another_process_by_now_is_gone() {
        let (_folder, proc) =
            tree(&[("7/stat", STAT), ("7/status", "Name:\ta) b (c\nUid:\t0\t0\t0\t0\nThreads:\t1\n")]);
        let mut id = proc.identify(7).expect("is there");
        assert_eq!(proc.process(&id).expect("is there").name, "a) b (c");
        id.start_ticks -= 1;
        assert!(matches!(proc.process(&id), Err(ReadError::Gone(7))));
        assert!(matches!(proc.identify(8), Err(ReadError::Gone(8))));
    }

    #[test]
    fn the_tightest_memory_limit_of_the_cgroups_around_a_process_counts() {
        let limit_of = |files: &[(&str, &str)]| {
            let (folder, _) = tree(files);
            ProcFs::at(folder.path().join("proc")).memory_limit(7)
        };
        let (v2, v1) = ("0::/a.slice/b.service\n", "3:cpu,memory:/pod/c\n1:name=systemd:/\n0::/pod/c\n");
        let own = ("sys/fs/cgroup/a.slice/b.service/memory.max", "max\n");
        assert_eq!(limit_of(&[("proc/7/cgroup", v2), own]), None);
        let around = ("sys/fs/cgroup/a.slice/memory.max", "5000\n");
        assert_eq!(limit_of(&[("proc/7/cgroup", v2), own, around]), Some(5_000));
        let all = ("sys/fs/cgroup/memory.max", "4000\n");
        assert_eq!(limit_of(&[("proc/7/cgroup", v2), own, around, all]), Some(4_000));
        assert_eq!(limit_of(&[("proc/7/cgroup", "0::/../b.service\n"), all]), None, "not around it");
        let own = ("sys/fs/cgroup/memory/pod/c/memory.limit_in_bytes", "9223372036854771712\n");
        let pod = ("sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "7000\n");
        assert_eq!(limit_of(&[("proc/7/cgroup", v1), own]), None);
        assert_eq!(limit_of(&[("proc/7/cgroup", v1), own, pod]), Some(7_000));
    }

    #[test]
    fn limits_are_the_soft_ones() {
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        let (_folder, proc) = tree(&[("7/limits", limits)]);
        assert_eq!(proc.descriptor_limit(7), Some(1024));
        assert_eq!(proc.descriptor_limit(8), None);
    }
}
