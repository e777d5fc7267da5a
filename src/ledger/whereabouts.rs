//! Where the thread is now that used something last, without stopping it: a connection that is kept open by a wait is told from
//! one that was forgotten.

use super::Ledger;
use super::process::Waiting;
use super::raw::{RawStack, STACK_BYTES_MAX};
use super::records::{Thread, Who};
use super::runtime;
use super::threads;
use crate::model::{StackKey, Whereabouts};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// `struct pollfd`.
const POLLFD_BYTES: u64 = 8;
/// Descriptors that are looked at of those that a thread polls.
const POLLED_MAX: u64 = 16;

/// Calls that wait for one of several descriptors, which their first argument lists; and those that have them in the kernel.
#[cfg(target_arch = "x86_64")]
const POLLS: [libc::c_long; 2] = [libc::SYS_poll, libc::SYS_ppoll];
#[cfg(not(target_arch = "x86_64"))]
const POLLS: [libc::c_long; 1] = [libc::SYS_ppoll];
#[cfg(target_arch = "x86_64")]
const EVENTS: [libc::c_long; 4] = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_select, libc::SYS_pselect6];
#[cfg(not(target_arch = "x86_64"))]
const EVENTS: [libc::c_long; 2] = [libc::SYS_epoll_pwait, libc::SYS_pselect6];

/// The threads of some processes, at one moment.
#[derive(Debug, Default)]
pub(super) struct Threads(HashMap<u32, Vec<Thread>>);

/// Where a thread was found, by what tells whether it has moved since.
#[derive(Clone, Debug)]
pub(super) struct Found {
    switches: u64,
    sp: u64,
    ip: u64,
    stack: Option<StackKey>,
    words: Box<str>,
}

impl Ledger {
    /// Where a thread is now; `None` where that says nothing of who used something: goroutines change threads.
    pub(super) fn whereabouts(&mut self, who: Who, threads: &mut Threads) -> Option<Whereabouts> {
        let watched = self.targets.get_mut(who.tgid)?;
        if watched.runtime.as_ref().is_some_and(|runtime| !runtime.stays_on_its_thread()) {
            return None;
        }
        let pid = watched.id.pid;
        let all = match threads.0.entry(who.tgid) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(none) => none.insert(threads::of_process(&self.hooks, pid).ok()?),
        };
        let at = self.clock.now;
        let Some(thread) = all.iter().find(|thread| thread.tid == who.tid).cloned() else {
            return Some(Whereabouts { at, stack: None, words: "has ended".into() });
        };
        if !thread.waits {
            return Some(Whereabouts { at, stack: None, words: "runs".into() });
        }
        let found = self.found.get(&(who.tgid, thread.tid)).filter(|found| found.is_of(&thread)).cloned();
        let found = match found {
            Some(found) => found,
            None => self.find(who.tgid, &thread)?,
        };
        Some(Whereabouts { at, stack: found.stack, words: found.words })
    }

    /// Looks at the stack of a thread that waits. `None` where it has moved on meanwhile.
    fn find(&mut self, tgid: u32, thread: &Thread) -> Option<Found> {
        let watched = self.targets.get_mut(tgid)?;
        let (stack, is_cut) = watched.process.stack(thread.registers.sp, STACK_BYTES_MAX).ok()?;
        let of = runtime::Thread { tid_inside: watched.process.tid_inside(thread.tid)?, fsbase: Some(thread.fsbase) };
        let taken = watched.runtime.as_ref().and_then(|runtime| runtime.take(&watched.process, of)).unwrap_or_default();
        let waiting = watched.process.waiting(thread.tid).ok().flatten();
        let still = threads::one(&self.hooks, thread.tid).ok().flatten()?;
        if still.switches != thread.switches || still.registers != thread.registers {
            return None;
        }
        let raw = RawStack { registers: thread.registers, stack, is_cut, runtime: taken };
        let resolved = self.stacks.resolve(&mut watched.process, watched.runtime.as_deref_mut(), &raw);
        let words = waiting.and_then(|waiting| self.waits_for(waiting, tgid));
        let found = Found {
            switches: thread.switches,
            sp: thread.registers.sp,
            ip: thread.registers.ip,
            stack: self.stacks.key(resolved.stack),
            words: words.unwrap_or_else(|| "waits".to_owned()).into(),
        };
        self.found.insert((tgid, thread.tid), found.clone());
        Some(found)
    }

    /// What a system call waits for.
    fn waits_for(&self, waiting: Waiting, tgid: u32) -> Option<String> {
        let call = libc::c_long::try_from(waiting.call?).ok()?;
        let [first, second, ..] = waiting.arguments;
        let peer = |fd: u64| i32::try_from(fd).ok().and_then(|fd| self.peer_of(tgid, fd));
        let of_peer = |fd, before: &str, after: &str, else_words: &str| {
            peer(fd).map_or_else(|| else_words.to_owned(), |peer| format!("{before} {peer} {after}"))
        };
        Some(match call {
            libc::SYS_read | libc::SYS_readv | libc::SYS_recvfrom | libc::SYS_recvmsg => {
                of_peer(first, "waits for", "to answer", "waits for something to read")
            }
            libc::SYS_write | libc::SYS_writev | libc::SYS_sendto | libc::SYS_sendmsg => {
                of_peer(first, "waits for", "to take what is sent", "waits to write")
            }
            _ if POLLS.contains(&call) => {
                let polled = self.polled(tgid, first, second);
                let answers = polled.into_iter().find_map(|fd| Some(format!("waits for {} to answer", peer(fd)?)));
                answers.unwrap_or_else(|| "waits for events".to_owned())
            }
            libc::SYS_futex => "waits for a lock, or for another thread".to_owned(),
            libc::SYS_connect => "waits to be connected".to_owned(),
            libc::SYS_accept | libc::SYS_accept4 => "waits for somebody to connect".to_owned(),
            libc::SYS_nanosleep | libc::SYS_clock_nanosleep => "sleeps".to_owned(),
            libc::SYS_wait4 | libc::SYS_waitid => "waits for a child process".to_owned(),
            libc::SYS_flock | libc::SYS_fcntl => "waits for a lock on a file".to_owned(),
            _ if EVENTS.contains(&call) => "waits for events".to_owned(),
            _ => return None,
        })
    }

    /// The descriptors that poll(2) was given.
    fn polled(&self, tgid: u32, address: u64, count: u64) -> Vec<u64> {
        let Some(watched) = self.targets.get(tgid) else { return Vec::new() };
        let word = |place: u64| watched.process.word(address.checked_add(place * POLLFD_BYTES)?).ok();
        // The descriptor is the first half of it.
        (0..count.min(POLLED_MAX)).filter_map(|place| Some(word(place)? & 0xffff_ffff)).collect()
    }

    /// Whom a descriptor is connected to.
    fn peer_of(&self, tgid: u32, fd: i32) -> Option<String> {
        let inode = self.targets.get(tgid)?.process.socket_inode(fd)?;
        let known = self.known.values().find(|known| known.is_socket && known.inode == inode)?;
        Some(known.peer.as_ref().map_or_else(|| "the other end of a Unix socket".to_owned(), ToString::to_string))
    }
}

impl Found {
    fn is_of(&self, thread: &Thread) -> bool {
        (self.switches, self.sp, self.ip) == (thread.switches, thread.registers.sp, thread.registers.ip)
    }
}
