//! The first look at a descriptor: what its link and `stat` tell of what it refers to.

use crate::model::{Access, Activity, Detail, Identity, Kind};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Statx, StatxFlags, statat, statx};
use std::ffi::CString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;

/// Marks the identity of a socket, whose inode no other socket has while it is open.
pub(in crate::sample) const SOCKET_IDENTITY: u64 = 8;

/// What a descriptor leads to.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::sample) struct Referent {
    /// Tells it from every other one.
    pub identity: Identity,
    /// Its kind; [`Kind::Socket`] until a socket table says which.
    pub kind: Kind,
    /// How it may be used; `None` of an `O_PATH` descriptor too.
    pub access: Option<Access>,
    /// Its inode.
    pub inode: Option<u64>,
    /// Its path; of an anonymous inode its class.
    pub name: Option<String>,
    /// When it was last used, of a file or a pipe that was seen to be.
    pub activity: Activity,
    /// What else the kernel says.
    pub detail: Option<Box<Detail>>,
}

impl Referent {
    /// The inode of a socket; `None` for all else, whose inodes are of other file systems and may be equal to a socket's.
    pub(in crate::sample) fn socket_inode(&self) -> Option<u64> {
        self.inode.filter(|_| self.kind == Kind::Socket)
    }

    fn new(identity: Identity, kind: Kind, access: Option<Access>) -> Self {
        Referent { identity, kind, access, inode: None, name: None, activity: Activity::default(), detail: None }
    }
}

/// A referent, and with what it may be one file.
#[derive(Debug)]
pub(super) struct Examined {
    /// Its identity is by its inode, or else by its slot.
    pub referent: Referent,
    /// Those that may be the same open file share it; `None` where the inode tells what is the same.
    pub class: Option<u64>,
}

/// The identity of a file that [`super::same_file`] has numbered.
pub(super) fn identity_of_file(class: u64, number: u64) -> Identity {
    Identity(class | 1 << 63, number | 1 << 63)
}

/// The identity of what is in a slot, as long as it is in there: pids and descriptors leave the topmost bit free.
fn identity_of_slot(class: u64, pid: u32, fd: i32) -> Identity {
    Identity(class | 1 << 63, (u64::from(pid) << 32) | u64::from(fd.unsigned_abs()))
}

/// Looks at a descriptor in its folder `/proc/PID/fd`. `None` where it is gone by now.
pub(super) fn examine(folder: &OwnedFd, pid: u32, fd: i32, link: &[u8]) -> Option<Examined> {
    let text = String::from_utf8_lossy(link).into_owned();
    let entry = CString::new(fd.to_string()).ok()?;
    // The link's own permissions are the mode the descriptor was opened with.
    let mode = Mode::from_raw_mode(statat(folder, &entry, AtFlags::SYMLINK_NOFOLLOW).ok()?.st_mode);
    let access = match (mode.contains(Mode::RUSR), mode.contains(Mode::WUSR)) {
        (true, true) => Some(Access::Both),
        (true, false) => Some(Access::Read),
        (false, true) => Some(Access::Write),
        (false, false) => None,
    };
    let by_inode = |tag: u64, inode: u64, kind| {
        let referent = Referent { inode: Some(inode), ..Referent::new(Identity(tag, inode), kind, access) };
        Some(Examined { referent, class: None })
    };
    if let Some(inode) = bracketed(&text, "socket:[") {
        return by_inode(SOCKET_IDENTITY, inode, Kind::Socket);
    }
    if let Some(inode) = bracketed(&text, "pipe:[") {
        let mut examined = by_inode(end_tag(access), inode, Kind::Pipe)?;
        examined.referent.detail = Some(Box::new(Detail { end: end_of(access), ..Detail::default() }));
        return Some(examined);
    }
    let by_slot = |class: u64, kind| Examined {
        referent: Referent::new(identity_of_slot(class, pid, fd), kind, access),
        class: Some(class),
    };
    let anonymous = bracketed(&text, "pidfd:[").map(|_| "pidfd").or_else(|| text.strip_prefix("anon_inode:"));
    if let Some(class) = anonymous {
        let class = class.trim_matches(['[', ']']);
        let mut examined = by_slot(hash(&text), anonymous_kind(class));
        // Shared by many, so it identifies nothing; shown because lsof shows it.
        examined.referent.inode = statat(folder, &entry, AtFlags::empty()).ok().map(|found| found.st_ino);
        examined.referent.name = Some(class.to_owned());
        return Some(examined);
    }
    // A path, or `net:[4026531840]`. `DONT_SYNC` takes what is cached: a server that hangs does not hang us.
    let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::BTIME;
    let found = statx(folder, &entry, AtFlags::STATX_DONT_SYNC, mask).ok();
    let inode = found.as_ref().map(|found| found.stx_ino);
    if let (Some(name), Some(inode)) = (text.strip_prefix("/memfd:"), inode) {
        let mut examined = by_inode(16 | end_tag(access), inode, Kind::Memfd)?;
        examined.referent.name = Some(name.trim_end_matches(" (deleted)").to_owned());
        return Some(examined);
    }
    let kind = match found.as_ref().map(|found| FileType::from_raw_mode(u32::from(found.stx_mode))) {
        Some(FileType::Directory) => Kind::Directory,
        Some(FileType::CharacterDevice) => Kind::CharDevice,
        Some(FileType::BlockDevice) => Kind::BlockDevice,
        Some(FileType::Fifo) => Kind::Pipe,
        Some(FileType::RegularFile) | None if text.starts_with('/') => Kind::File,
        _ => Kind::Other,
    };
    // The birth too: a file system may give the inode number of a deleted file to the next one at once.
    let class = found.as_ref().map_or_else(
        || hash(&text),
        |found| hash(&(found.stx_dev_major, found.stx_dev_minor, found.stx_ino, born(found))),
    );
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    let device = found.as_ref().filter(|_| is_device).map(|it| format!("{}:{}", it.stx_rdev_major, it.stx_rdev_minor));
    let detail = Detail {
        deleted: matches!(kind, Kind::File | Kind::Directory).then(|| is_deleted(&text, found.as_ref())),
        path_only: access.is_none().then_some(true),
        end: if kind == Kind::Pipe { end_of(access) } else { None },
        device,
        ..Detail::default()
    };
    let mut examined = by_slot(class, kind);
    examined.referent.inode = inode;
    examined.referent.name = Some(text);
    examined.referent.detail = (detail != Detail::default()).then(|| Box::new(detail));
    Some(examined)
}

/// Whether the kernel's ` (deleted)` stands behind the path; a file may also be called so.
fn is_deleted(path: &str, found: Option<&Statx>) -> bool {
    let still_there = || {
        let here = statx(CWD, path, AtFlags::STATX_DONT_SYNC | AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO).ok();
        let of = |it: &Statx| (it.stx_dev_major, it.stx_dev_minor, it.stx_ino);
        here.as_ref().map(of).is_some_and(|here| found.map(of) == Some(here))
    };
    path.ends_with(" (deleted)") && !still_there()
}

fn born(found: &Statx) -> (i64, u32) {
    (found.stx_btime.tv_sec, found.stx_btime.tv_nsec)
}

/// The number in `socket:[219232]`.
fn bracketed(text: &str, prefix: &str) -> Option<u64> {
    text.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok()
}

fn end_tag(access: Option<Access>) -> u64 {
    match access {
        Some(Access::Read) => 1,
        Some(Access::Write) => 2,
        _ => 3,
    }
}

/// The end of a pipe that may be used so.
fn end_of(access: Option<Access>) -> Option<String> {
    let end = match access? {
        Access::Read => "read",
        Access::Write => "write",
        Access::Both => "both",
    };
    Some(end.to_owned())
}

/// The kind of `anon_inode:CLASS`.
fn anonymous_kind(class: &str) -> Kind {
    match class {
        "eventfd" => Kind::Eventfd,
        "eventpoll" => Kind::Epoll,
        "inotify" => Kind::Inotify,
        "fanotify" => Kind::Fanotify,
        "timerfd" => Kind::Timerfd,
        "signalfd" => Kind::Signalfd,
        "pidfd" => Kind::Pidfd,
        "io_uring" => Kind::IoUring,
        "perf_event" => Kind::PerfEvent,
        "userfaultfd" => Kind::Userfaultfd,
        _ if class.starts_with("bpf") || class == "btf" => Kind::Bpf,
        _ => Kind::Other,
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, openat};
    use std::fs::{self, File};
    use std::os::fd::AsRawFd;

    /// What is told of an open file of ours.
    fn of(file: &File) -> Examined {
        let path = format!("/proc/{}/fd", std::process::id());
        let folder = openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("opens");
        let link = rustix::fs::readlinkat(&folder, file.as_raw_fd().to_string(), Vec::new()).expect("is a link");
        examine(&folder, std::process::id(), file.as_raw_fd(), link.as_bytes()).expect("is open")
    }

    #[test]
    fn a_deleted_file_is_told_from_one_that_is_called_so() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let (plain, called) = (folder.path().join("a"), folder.path().join("b (deleted)"));
        let files = [&plain, &called].map(|path| File::create(path).expect("made"));
        let deleted = |file: &File| of(file).referent.detail.and_then(|detail| detail.deleted);
        assert_eq!(files.each_ref().map(deleted), [Some(false), Some(false)]);
        fs::remove_file(&plain).expect("removed");
        fs::remove_file(&called).expect("removed");
        assert_eq!(files.each_ref().map(deleted), [Some(true), Some(true)]);
    }

    #[test]
    fn two_openings_of_a_path_share_a_class_and_no_identity() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("a");
        let (one, other) = (File::create(&path).expect("made"), File::open(&path).expect("opens"));
        let (one, other) = (of(&one), of(&other));
        assert_eq!(one.class, other.class);
        assert_ne!(one.referent.identity, other.referent.identity);
        assert_eq!((one.referent.access, other.referent.access), (Some(Access::Write), Some(Access::Read)));
    }

    #[test]
    fn a_device_has_its_number() {
        let detail = of(&File::open("/dev/null").expect("opens")).referent.detail;
        assert_eq!(detail.and_then(|detail| detail.device).as_deref(), Some("1:3"));
    }
}
