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
