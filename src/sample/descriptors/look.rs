//! Further looks at descriptors that are known: what moves while they stay open.
//!
//! All are looked at where somebody asks once (`list`). In a tick they take turns, so that ten thousand files cost no more
//! than a few hundred: where a file stands, for one that has moved was used; an eventfd's count, a timer's clock. Inotify
//! instances come first: there are few of them, and their watches are what leaks.
//!
//! What moves an offset is read(2), write(2) and lseek(2): a file that is used by pread(2), pwrite(2) or mmap(2) is not
//! seen to be. A FIFO's inode has the times of its last read and write; of a pipe without a name older kernels keep them.

use super::{Slot, fdinfo};
use crate::model::Kind;
use crate::sample::procfs::ProcFs;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, Timespec, Timestamps, fstat, futimens, openat, statx};
use std::fs::File;
use std::io::BufReader;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Looks a tick at what takes turns, in all processes together: 5 us each.
const LOOKS_MAX: usize = 256;

/// Looks a tick at the inotify instances of one process. A user may have 128 of them unless root says otherwise.
const INOTIFY_LOOKS_MAX: usize = 64;

/// A look at an instance with 100,000 watches takes some 50 ms, and holds the instance for as long: the next one comes
/// after so many times what this one took, whatever the interval of the ticks.
const REST: u32 = 100;

/// What further looks at a descriptor have told.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// When a pipe's inode was last read or written, since the epoch.
    touched: Option<Duration>,
    /// When it was used: the look that saw it, or, of a pipe, the very moment.
    used: Option<Instant>,
    /// There is no other look before.
    rests_until: Option<Instant>,
}

/// Where the turn stands in a process.
#[derive(Debug, Default)]
pub(in crate::sample) struct Turn {
    next: i32,
    next_inotify: i32,
}

/// Looks again and again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    /// At everything, every time.
    pub(super) all: bool,
    /// Whoever asks knows the offsets of files already.
    knows_offsets: bool,
    pipes_keep_times: bool,
}

impl Looks {
    pub(super) fn new() -> Self {
        Looks { all: false, knows_offsets: false, pipes_keep_times: pipes_keep_times() }
    }

    /// The same, but for offsets.
    pub(super) fn without_offsets(&self) -> Self {
        Looks { knows_offsets: true, ..*self }
    }

    /// The same, at everything.
    pub(super) fn everything(&self) -> Self {
        Looks { all: true, ..*self }
    }

    /// Looks at some of the slots of one of so many processes, and marks those that have news.
    pub(super) fn look(&self, proc: &ProcFs, pid: u32, slots: &mut [Slot], turn: &mut Turn, processes: usize) {
        let path = proc.folder(pid);
        // Closed to us, or gone: what is known stays as it is.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(fdinfo) = openat(CWD, path.join("fdinfo"), flags, Mode::empty()) else { return };
        let folder = Folder { path, fdinfo };
        if self.all {
            for slot in slots.iter_mut().filter(|slot| self.tells(slot)) {
                look(&folder, slot);
            }
        } else {
            let allowance = (LOOKS_MAX / processes.max(1)).max(1);
            let now = Instant::now();
            let rested = |slot: &Slot| slot.seen.rests_until.is_none_or(|until| until <= now);
            let is_inotify = |slot: &Slot| slot.referent.kind == Kind::Inotify && rested(slot);
            let is_due = |slot: &Slot| self.takes_turns(slot) && rested(slot);
            in_turn(slots, &mut turn.next_inotify, INOTIFY_LOOKS_MAX, is_inotify, |slot| look(&folder, slot));
            in_turn(slots, &mut turn.next, allowance, is_due, |slot| look(&folder, slot));
        }
        for slot in slots {
            if let Some(used) = slot.seen.used {
                slot.referent.activity.silent_seconds = Some(used.elapsed().as_secs_f64());
            }
        }
    }

    /// True where a look tells anything at all. Of an epoll never in a tick: with 10,000 targets it takes long, and the
    /// target's own epoll_wait waits meanwhile.
    fn tells(&self, slot: &Slot) -> bool {
        slot.referent.kind == Kind::Epoll || self.takes_turns(slot)
    }

    fn takes_turns(&self, slot: &Slot) -> bool {
        let referent = &slot.referent;
        match referent.kind {
            // Of one opened with O_PATH there is nothing to see.
            Kind::File | Kind::Memfd | Kind::BlockDevice => referent.access.is_some() && !self.knows_offsets,
            Kind::Pipe => referent.access.is_some() && (self.pipes_keep_times || referent.name.is_some()),
            Kind::Inotify | Kind::Fanotify | Kind::Eventfd | Kind::Timerfd | Kind::Signalfd => true,
            Kind::Pidfd | Kind::IoUring | Kind::Bpf => true,
            _ => false,
        }
    }
}

/// Takes at most so many of the wanted slots, from where the turn stands, and moves it on.
fn in_turn(
    slots: &mut [Slot],
    turn: &mut i32,
    at_most: usize,
    wanted: impl Fn(&Slot) -> bool,
    mut take: impl FnMut(&mut Slot),
) {
    let begin = slots.partition_point(|slot| slot.fd < *turn);
    let mut left = at_most;
    for place in (begin..slots.len()).chain(0..begin) {
        if left == 0 {
            break;
        }
        let slot = &mut slots[place];
        if wanted(slot) {
            take(slot);
            *turn = slot.fd.saturating_add(1);
            left -= 1;
        }
    }
}

/// A process' folder.
struct Folder {
    path: PathBuf,
    fdinfo: OwnedFd,
}

fn look(folder: &Folder, slot: &mut Slot) {
    let begun = Instant::now();
    if slot.referent.kind == Kind::Pipe {
        look_at_times(&folder.path, slot);
    } else {
        look_at_fdinfo(&folder.fdinfo, slot);
    }
    slot.seen.rests_until = Some(begun + REST * begun.elapsed());
}

fn look_at_fdinfo(folder: &OwnedFd, slot: &mut Slot) {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = openat(folder, slot.fd.to_string(), flags, Mode::empty()) else { return };
    let before = slot.referent.detail.take();
    let mut now = before.clone().unwrap_or_default();
    if fdinfo::read(BufReader::with_capacity(1 << 12, File::from(file)), slot.referent.kind, &mut now).is_err() {
        slot.referent.detail = before;
        return;
    }
    let offset_before = before.as_ref().and_then(|before| before.offset);
    if offset_before.is_some() && offset_before != now.offset {
        slot.seen.used = Some(Instant::now());
        slot.news = true;
    }
    slot.news |= now.is_news(&before.unwrap_or_default());
    slot.referent.detail = Some(now);
}

fn look_at_times(folder: &Path, slot: &mut Slot) {
    let path = folder.join("fd").join(slot.fd.to_string());
    let mask = StatxFlags::ATIME | StatxFlags::MTIME;
    let Ok(found) = statx(CWD, &path, AtFlags::STATX_DONT_SYNC, mask) else { return };
    let time = |seconds: i64, nanoseconds: u32| Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds);
    let read = time(found.stx_atime.tv_sec, found.stx_atime.tv_nsec);
    let touched = read.max(time(found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec));
    // The times of a FIFO may be those of its making: only one that is seen to move was used.
    if slot.seen.touched.is_some_and(|before| before < touched) {
        let ago = SystemTime::now().duration_since(UNIX_EPOCH + touched).unwrap_or_default();
        slot.seen.used = Instant::now().checked_sub(ago);
        slot.news = true;
    }
    slot.seen.touched = Some(touched);
}

/// Whether this kernel notes in a pipe's inode when it was used: tried on one of our own, whose times are set back first.
fn pipes_keep_times() -> bool {
    let set_back = || -> std::io::Result<bool> {
        let (_reading, writing) = std::io::pipe()?;
        let long_ago = Timespec { tv_sec: 1, tv_nsec: 0 };
        futimens(&writing, &Timestamps { last_access: long_ago, last_modification: long_ago })?;
        rustix::io::write(&writing, b"x")?;
        Ok(fstat(&writing)?.st_mtime as i64 != long_ago.tv_sec)
    };
    set_back().unwrap_or(false)
}
