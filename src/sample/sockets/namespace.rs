//! The socket tables of other network namespaces, from inside.
//!
//! A thread enters the namespace, opens a `sock_diag` socket there, hands it back and ends: the socket stays of that
//! namespace, and this process' other threads never leave their own. setns(2): this needs CAP_SYS_ADMIN in the user
//! namespace that owns the network namespace, and in our own.

use super::diag::SockDiag;
use super::netlink::Netlink;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::{io, thread};

/// Namespaces that are kept entered at most; one beyond is entered anew each time. Each is a descriptor and 64 KiB.
const ENTERED_MAX: usize = 64;

/// The namespaces that were entered, by their names: what the link `/proc/PID/ns/net` reads.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// `None` for one that is closed to us.
    entered: HashMap<PathBuf, Option<SockDiag>>,
}

impl Namespaces {
    /// Takes the tables of the namespace that `link` leads to, entered now if it wasn't; `None` where we may not. To be
    /// put back by [`Namespaces::keep`].
    pub(super) fn take(&mut self, name: &Path, link: &Path) -> Option<SockDiag> {
        self.entered.remove(name).unwrap_or_else(|| enter(link).ok().map(SockDiag::new))
    }

    /// Keeps what was taken for the next time.
    pub(super) fn keep(&mut self, name: &Path, tables: Option<SockDiag>) {
        if self.entered.len() < ENTERED_MAX {
            self.entered.insert(name.to_owned(), tables);
        }
    }

    /// Leaves those that no process of the target is in any more: an open socket would keep a namespace alive.
    pub(super) fn retain(&mut self, in_use: &HashSet<&Path>) {
        self.entered.retain(|name, _| in_use.contains(name.as_path()));
    }
}

/// A `sock_diag` socket of the namespace that a link leads to.
fn enter(link: &Path) -> io::Result<Netlink> {
    let namespace = File::open(link)?;
    let open = move || -> io::Result<Netlink> {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Netlink::open()
    };
    let thread = thread::Builder::new().name("namespace".to_owned()).spawn(open)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that entered it panicked")))
}
