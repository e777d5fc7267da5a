//! The sockets around a process whose descriptors are closed to us: those of its cgroup, or of its user, for the kernel
//! tells everyone's sockets to everyone, only not who holds them.

use super::cgroup_id::CgroupPaths;
use super::diag::SockDiag;
use super::{SocketTable, inet, procnet};
use crate::sample::procfs::{ProcFs, ReadError};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Whose sockets are told in place of the process' own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::sample) enum Scope {
    /// Of all processes of a cgroup: its path in the unified hierarchy.
    Cgroup(String),
    /// Of all processes of a user.
    User(u32),
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Cgroup(path) => write!(out, "cgroup {path}"),
            Scope::User(uid) => write!(out, "user {uid}"),
        }
    }
}

/// What is known of a process' sockets without its descriptors.
#[derive(Clone, Debug)]
pub(in crate::sample) struct Outside {
    /// Whose they are.
    pub scope: Scope,
    /// All sockets of the scope; processes that share it share these.
    pub sockets: Arc<SocketTable>,
    /// What this is and isn't, and what mends it, for a person.
    pub words: String,
}

/// What was read for some scope, and stays good for the processes that share it, until it is forgotten.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    /// By scope, and by network namespace where it isn't ours.
    read: HashMap<(Scope, Option<u64>), Arc<SocketTable>>,
}

impl Scopes {
    /// Forgets what was read; the next call reads the tables again.
    pub(super) fn forget(&mut self) {
        self.read.clear();
    }

    /// The sockets around process `pid`, from the tables of our own network namespace, or from `/proc/PID/net` where it is
    /// in another one or `sock_diag` can't be used. Fails where the process is gone, or nothing tells whose it is.
    pub(super) fn around(
        &mut self,
        proc: &ProcFs,
        pid: u32,
        cgroups: &mut CgroupPaths,
        own: Option<&mut SockDiag>,
    ) -> Result<Outside, ReadError> {
        let uid = proc.status(pid)?.uid;
        let namespace = namespace_number(proc, &pid.to_string());
        let elsewhere = (namespace != namespace_number(proc, "self")).then_some(namespace).flatten();
        let user = Scope::User(uid);
        let cgroup = unified_cgroup(proc, pid).and_then(|path| Some((cgroups.id(&path)?, Scope::Cgroup(path))));
        let failed = |source| ReadError::Io { path: proc.folder(pid).join("net"), source };
        let (scope, sockets) = match own.filter(|_| elsewhere.is_none()) {
            Some(own) => {
                let of_cgroup = match cgroup {
                    Some((id, scope)) => {
                        let is_in = |row: &[u8]| inet::cgroup_id(row) == Some(id);
                        let read = || own.read_all(cgroups, is_in, |_| false);
                        Some((self.read_once(scope.clone(), None, read).map_err(failed)?, scope))
                    }
                    None => None,
                };
                match of_cgroup {
                    // Before Linux 5.9 no socket tells its cgroup; and those handed over by another belong to that one's.
                    Some((sockets, scope)) if !sockets.is_empty() => (scope, sockets),
                    _ => {
                        let is_unix =
                            |it: &super::Socket| it.detail.as_ref().and_then(|detail| detail.uid) == Some(uid);
                        let read = || own.read_all(cgroups, |row| inet::uid(row) == Some(uid), is_unix);
                        (user.clone(), self.read_once(user, None, read).map_err(failed)?)
                    }
                }
            }
            None => {
                let read = || Ok(procnet::read_user(proc, pid, uid));
                (user.clone(), self.read_once(user, elsewhere, read).map_err(failed)?)
            }
        };
        let words = words(pid, uid, &scope, elsewhere.is_some());
        Ok(Outside { scope, sockets, words })
    }

    fn read_once(
        &mut self,
        scope: Scope,
        elsewhere: Option<u64>,
        read: impl FnOnce() -> io::Result<SocketTable>,
    ) -> io::Result<Arc<SocketTable>> {
        let key = (scope, elsewhere);
        if let Some(known) = self.read.get(&key) {
            return Ok(known.clone());
        }
        let sockets = Arc::new(read()?);
        self.read.insert(key, sockets.clone());
        Ok(sockets)
    }
}

/// What tells one network namespace from another without the right to read `/proc/PID/ns`: the files under `/proc/PID/net`
/// are the namespace's own, so their inodes differ.
fn namespace_number(proc: &ProcFs, process: &str) -> Option<u64> {
    std::fs::metadata(proc.root().join(process).join("net/tcp")).ok().map(|file| file.ino())
}

/// The cgroup of a process in the unified hierarchy; `None` for the root, which is no narrower than a user.
fn unified_cgroup(proc: &ProcFs, pid: u32) -> Option<String> {
    let text = proc.text(pid, "cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    (Path::new(path) != Path::new("/")).then(|| path.to_owned())
}

/// What is told in place of the process' own sockets, and what mends it.
fn words(pid: u32, uid: u32, scope: &Scope, elsewhere: bool) -> String {
    let what = match scope {
        _ if elsewhere => "all internet sockets of its user in its network namespace, from /proc/PID/net",
        Scope::Cgroup(_) => "all internet sockets of its cgroup, and no Unix sockets, which don't tell theirs",
        Scope::User(_) => "all sockets of its user",
    };
    format!(
        "the descriptors of process {pid} are closed to us: told are the sockets of {scope}, not only the process' own ({what}); \
         run unclosed as user {uid}, by sudo, or give it the right by \
         `setcap cap_sys_ptrace,cap_dac_read_search+ep $(command -v unclosed)`"
    )
}

#[cfg(test)]
mod tests {
    use super::super::SocketReader;
    use super::*;
    use crate::model::{Address, Kind};
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    const TEST: &str =
        "sample::sockets::outside::tests::a_process_closed_to_us_is_told_by_the_sockets_of_its_user_or_cgroup";
    /// Tells the inner run whom to look at: pid, the inodes of its listener, datagram socket and Unix socket, its cgroup.
    const HOLDER: &str = "UNCLOSED_TEST_HOLDER";
    const SCRIPT: &str = "import os, socket, sys\n\
        tcp = socket.create_server(('127.0.0.1', 0)); udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        udp.bind(('127.0.0.1', 0)); unix = socket.socket(socket.AF_UNIX); unix.bind(b'\\0unclosed-%d' % os.getpid())\n\
        print(os.getpid(), *(os.fstat(it.fileno()).st_ino for it in (tcp, udp, unix)), flush=True)\n\
        sys.stdin.read()";

    /// A process of user 65533 that holds three sockets, in this cgroup; and what it said of them.
    fn holder(cgroup: Option<&Path>) -> Option<(Child, String)> {
        let enter = cgroup.map(|it| format!("echo $$ > {}/cgroup.procs; ", it.display())).unwrap_or_default();
        let line =
            format!("{enter}exec setpriv --reuid=65533 --regid=65533 --clear-groups sh -c 'exec python3 -c \"$it\"'");
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", &line]).env("it", SCRIPT).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().ok()?;
        let mut told = String::new();
        BufReader::new(child.stdout.as_mut()?).read_line(&mut told).ok()?;
        Some((child, told.trim().to_owned())).filter(|(_, told)| !told.is_empty())
    }

    /// Looks as user 65534, who may not read the descriptors.
    fn look(told: &str) {
        let mut words = told.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
        let (pid, tcp, udp, unix) = (number() as u32, number(), number(), number());
        let cgroup = words.next();
        assert!(std::fs::read_dir(format!("/proc/{pid}/fd")).is_err(), "it is closed to us");
        let mut reader = SocketReader::new(&ProcFs::system(), true);
        let outside = reader.outside(pid).expect("is told");
        let kind = |inode: u64| outside.sockets.get(&inode).map(|it| it.kind);
        assert_eq!((kind(tcp), kind(udp)), (Some(Kind::Tcp), Some(Kind::Udp)), "{outside:?}");
        match cgroup {
            Some(path) => {
                assert_eq!((&outside.scope, kind(unix)), (&Scope::Cgroup(path.to_owned()), None));
                assert_eq!(outside.sockets.len(), 2, "nobody else's");
            }
            None => {
                assert_eq!((&outside.scope, kind(unix)), (&Scope::User(65533), Some(Kind::Unix)));
                assert!(outside.sockets.values().all(|it| it.detail.as_ref().is_some_and(|it| it.uid == Some(65533))));
            }
        }
        for part in ["not only the process' own", "as user 65533", "sudo", "cap_sys_ptrace"] {
            assert!(outside.words.contains(part), "{part}: {}", outside.words);
        }
        let again = reader.outside(pid).expect("is told");
        assert!(Arc::ptr_eq(&outside.sockets, &again.sockets), "the tables are read once");
        reader.read(std::iter::empty::<(u32, std::iter::Empty<u64>)>());
        let later = reader.outside(pid).expect("is told");
        assert!(!Arc::ptr_eq(&outside.sockets, &later.sockets), "and anew in the next tick");
    }

    #[test]
    fn a_process_closed_to_us_is_told_by_the_sockets_of_its_user_or_cgroup() {
        if let Ok(told) = std::env::var(HOLDER) {
            return look(&told);
        }
        if !rustix::process::geteuid().is_root() {
            eprintln!("{TEST} skipped: only root can become two other users");
            return;
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("is there");
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let name = format!("unclosed-outside-{}", std::process::id());
        let folder = mount.map(|mount| Path::new(mount).join(&name));
        let folder = folder.filter(|folder| std::fs::create_dir(folder).is_ok());
        if folder.is_none() {
            eprintln!("{TEST} skipped in part: no cgroup can be made here");
        }
        for cgroup in [None, folder.as_deref()].into_iter().take(1 + usize::from(folder.is_some())) {
            let Some((mut child, mut told)) = holder(cgroup) else {
                eprintln!("{TEST} skipped: there is no setpriv, or no python3 for everyone");
                break;
            };
            if cgroup.is_some() {
                told.push_str(&format!(" /{name}"));
            }
            let this = std::env::current_exe().expect("is known");
            let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
            let inner =
                Command::new("setpriv").args(nobody).arg(this).args(["--exact", TEST]).env(HOLDER, told).output();
            drop(child.stdin.take());
            child.wait().expect("ends");
            let inner = inner.expect("runs");
            let said = String::from_utf8_lossy(&inner.stdout);
            assert!(said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&inner.stderr));
        }
        if let Some(folder) = folder {
            std::fs::remove_dir(folder).expect("is empty");
        }
    }

    #[test]
    fn of_another_namespace_the_users_sockets_come_from_its_own_files() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path().join("7");
        std::fs::create_dir_all(folder.join("net")).expect("made");
        std::fs::write(folder.join("status"), "Name:\ta\nUid:\t1000\t1000\t1000\t1000\n").expect("written");
        std::fs::write(folder.join("cgroup"), "0::/a.slice\n").expect("written");
        let rows = "sl\n 0: 0100007F:1538 00000000:0000 0A 0:0 00:0 0 1000 0 81 1\n\
                    1: 0100007F:1539 00000000:0000 0A 0:0 00:0 0 0 0 82 1\n\
                    2: 0100007F:153A 0100007F:1538 06 0:0 00:0 0 1000 0 0 1\n";
        std::fs::write(folder.join("net/tcp"), rows).expect("written");
        let mut reader = SocketReader::new(&ProcFs::at(scratch.path().to_owned()), true);
        let outside = reader.outside(7).expect("is told");
        assert_eq!(outside.scope, Scope::User(1000));
        let told: Vec<_> = outside.sockets.iter().map(|(inode, it)| (*inode, it.local.clone())).collect();
        assert_eq!(told, [(81, Some(Address::parse("127.0.0.1:5432")))]);
        assert!(outside.words.contains("/proc/PID/net"), "{}", outside.words);
        assert!(matches!(reader.outside(8), Err(ReadError::Gone(8))));
    }
}
