//! The descriptors of a process: a walk over `/proc/PID/fd`.
//!
//! A descriptor costs one `readlink` a tick. What the link doesn't tell (the access mode, a file's type) is asked once,
//! when a descriptor's number and link are first seen together, and remembered for as long as they stay so.
//!
//! Identity by what `/proc` tells: a socket, a pipe's end, a memfd by its inode; anything else by the slot it is in
//! (process, number) and what is in it, for two anonymous inodes share an inode number and two openings of a file its
//! path. So two descriptors made by `dup` or `fork` are one resource where they are sockets or pipes, and two elsewhere.
//! What is in a slot: the file itself where it can be asked for, so that one renamed or deleted while it is open stays
//! the same; else the link.

use super::procfs::{ProcFs, ReadError};
use crate::model::{Access, Identity, Kind};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags, openat, readlinkat, statat, statx};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;

/// What a descriptor leads to, as far as its link and `stat` tell.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Referent {
    /// Tells it from every other one.
    pub identity: Identity,
    /// Its kind; [`Kind::Socket`] until a socket table says which.
    pub kind: Kind,
    /// How it may be used.
    pub access: Option<Access>,
    /// Its inode.
    pub inode: Option<u64>,
    /// Its path.
    pub name: Option<String>,
}

impl Referent {
    /// The inode of a socket; `None` for all else, whose inodes are of other file systems and may be equal to a socket's.
    pub(super) fn socket_inode(&self) -> Option<u64> {
        self.inode.filter(|_| self.kind == Kind::Socket)
    }
}

/// Walks descriptors and remembers what it asked about them.
#[derive(Debug)]
pub(super) struct DescriptorReader {
    proc: ProcFs,
    /// What a process had open at the last look, in the order in which the kernel listed it: by number.
    known: HashMap<u32, Vec<Slot>>,
}

/// A descriptor that was examined, and the link it had.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slot {
    /// The descriptor's number.
    pub fd: i32,
    /// What `/proc/PID/fd/N` reads.
    pub link: Vec<u8>,
    /// What it leads to.
    pub referent: Referent,
    /// True where it was not there at the read before, or is not as it was.
    pub news: bool,
}

impl DescriptorReader {
    /// A reader of processes under `proc`.
    pub(super) fn new(proc: &ProcFs) -> Self {
        DescriptorReader { proc: proc.clone(), known: HashMap::new() }
    }

    /// Looks at what the process has open. A descriptor that is closed while we walk is left out.
    pub(super) fn read(&mut self, pid: u32) -> Result<(), ReadError> {
        let path = self.proc.folder(pid).join("fd");
        let proc = &self.proc;
        let failed = |error: Errno| match ReadError::of_process(pid, &path, error.into()) {
            // One that is ending belongs to root for its last moment and as a zombie, so it only seems closed to us.
            ReadError::Denied { .. } if proc.is_ending(pid) => ReadError::Gone(pid),
            error => error,
        };
        let folder =
            openat(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let mut before = self.known.remove(&pid).unwrap_or_default().into_iter().peekable();
        let mut now = Vec::with_capacity(before.len());
        let mut buffer = Vec::new();
        for item in Dir::read_from(&folder).map_err(failed)? {
            let item = item.map_err(failed)?;
            let Some(fd) = item.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let link = match readlinkat(&folder, item.file_name(), std::mem::take(&mut buffer)) {
                Ok(link) => link,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            };
            // Both lists rise, so one pass over both pairs them.
            while before.next_if(|known| known.fd < fd).is_some() {}
            match before.next_if(|known| known.fd == fd && known.link == link.as_bytes()) {
                Some(known) => now.push(Slot { news: false, ..known }),
                None => {
                    if let Some(referent) = examine(&folder, item.file_name(), pid, fd, &link) {
                        now.push(Slot { fd, link: link.as_bytes().to_vec(), referent, news: true });
                    }
                }
            }
            buffer = link.into_bytes();
        }
        self.known.insert(pid, now);
        Ok(())
    }

    /// What the process had open at the last read, in the order of the numbers.
    pub(super) fn slots(&self, pid: u32) -> &[Slot] {
        self.known.get(&pid).map_or(&[], Vec::as_slice)
    }

    /// Forgets a process that has ended.
    pub(super) fn forget(&mut self, pid: u32) {
        self.known.remove(&pid);
    }
}

/// Looks at a descriptor that is new. `None` where it is gone by now.
fn examine(folder: &OwnedFd, entry: &std::ffi::CStr, pid: u32, fd: i32, link: &CString) -> Option<Referent> {
    let text = link.to_string_lossy().into_owned();
    // The link's own permissions are the mode the descriptor was opened with.
    let mode = Mode::from_raw_mode(statat(folder, entry, AtFlags::SYMLINK_NOFOLLOW).ok()?.st_mode);
    let access = match (mode.contains(Mode::RUSR), mode.contains(Mode::WUSR)) {
        (true, true) => Some(Access::Both),
        (true, false) => Some(Access::Read),
        (false, true) => Some(Access::Write),
        (false, false) => None,
    };
    let in_slot = |what: u64| Identity(what | 1 << 63, (u64::from(pid) << 32) | u64::from(fd.unsigned_abs()));
    let slot = in_slot(hash(&text));
    let by_inode = |tag: u64, inode: u64| Identity(tag, inode);
    let end = match access {
        Some(Access::Read) => 1,
        Some(Access::Write) => 2,
        _ => 3,
    };
    let anonymous = |kind| Referent { identity: slot, kind, access, inode: None, name: None };
    if let Some(inode) = bracketed(&text, "socket:[") {
        return Some(Referent {
            identity: by_inode(8, inode),
            kind: Kind::Socket,
            access,
            inode: Some(inode),
            name: None,
        });
    }
    if let Some(inode) = bracketed(&text, "pipe:[") {
        return Some(Referent {
            identity: by_inode(end, inode),
            kind: Kind::Pipe,
            access,
            inode: Some(inode),
            name: None,
        });
    }
    if let Some(inode) = bracketed(&text, "pidfd:[") {
        return Some(Referent { inode: Some(inode), ..anonymous(Kind::Pidfd) });
    }
    if let Some(class) = text.strip_prefix("anon_inode:") {
        let class = class.trim_matches(['[', ']']);
        // Shared by many, so it identifies nothing; shown because lsof shows it.
        let inode = statat(folder, entry, AtFlags::empty()).ok().map(|found| found.st_ino);
        return Some(Referent { inode, name: Some(class.to_owned()), ..anonymous(anonymous_kind(class)) });
    }
    // A path, or `net:[4026531840]`. `DONT_SYNC` takes what is cached: a server that hangs does not hang us.
    let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::BTIME;
    let found = statx(folder, entry, AtFlags::STATX_DONT_SYNC, mask).ok();
    // Its birth too: a file system may give the inode number of a deleted file to the next one at once.
    let slot = found.as_ref().map_or(slot, |found| {
        let (device, born) = ((found.stx_dev_major, found.stx_dev_minor), found.stx_btime);
        in_slot(hash(&(device, found.stx_ino, born.tv_sec, born.tv_nsec)))
    });
    let inode = found.as_ref().map(|found| found.stx_ino);
    let memfd = text.strip_prefix("/memfd:").map(|name| name.trim_end_matches(" (deleted)").to_owned());
    if let Some(name) = memfd {
        let identity = inode.map_or(slot, |inode| by_inode(16 | end, inode));
        return Some(Referent { identity, kind: Kind::Memfd, access, inode, name: Some(name) });
    }
    let kind = match found.map(|found| FileType::from_raw_mode(u32::from(found.stx_mode))) {
        Some(FileType::Directory) => Kind::Directory,
        Some(FileType::CharacterDevice) => Kind::CharDevice,
        Some(FileType::BlockDevice) => Kind::BlockDevice,
        Some(FileType::Fifo) => Kind::Pipe,
        Some(FileType::RegularFile) | None if text.starts_with('/') => Kind::File,
        _ => Kind::Other,
    };
    Some(Referent { identity: slot, kind, access, inode, name: Some(text) })
}

/// The number in `socket:[219232]`.
fn bracketed(text: &str, prefix: &str) -> Option<u64> {
    text.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok()
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
    use crate::sample::unprivileged;
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    fn entries(reader: &mut DescriptorReader) -> Vec<(i32, Kind)> {
        let mut entries: Vec<_> = reader
            .read(7)
            .map(|()| reader.slots(7).iter().map(|it| (it.fd, it.referent.kind)).collect())
            .expect("reads");
        entries.sort_unstable_by_key(|(fd, _)| *fd);
        entries
    }

    #[test]
    fn kinds_are_told_from_links_and_remembered_only_while_the_link_stays() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let fd = folder.path().join("7/fd");
        fs::create_dir_all(&fd).expect("made");
        for (name, link) in
            [("0", "pipe:[11]"), ("1", "socket:[12]"), ("2", "anon_inode:[eventfd]"), ("3", "/gone (deleted)")]
        {
            symlink(link, fd.join(name)).expect("linked");
        }
        let mut reader = DescriptorReader::new(&ProcFs::at(folder.path().to_owned()));
        assert_eq!(entries(&mut reader), [(0, Kind::Pipe), (1, Kind::Socket), (2, Kind::Eventfd), (3, Kind::File)]);
        fs::remove_file(fd.join("1")).expect("removed");
        symlink("anon_inode:inotify", fd.join("1")).expect("linked");
        assert_eq!(entries(&mut reader), [(0, Kind::Pipe), (1, Kind::Inotify), (2, Kind::Eventfd), (3, Kind::File)]);
    }

    #[test]
    fn descriptors_that_come_and_go_while_we_walk_are_there_or_left_out() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let fd = folder.path().join("7/fd");
        fs::create_dir_all(&fd).expect("made");
        symlink("pipe:[1]", fd.join("0")).expect("linked");
        let mut reader = DescriptorReader::new(&ProcFs::at(folder.path().to_owned()));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for number in 1..50 {
                        symlink(format!("pipe:[{number}]"), fd.join(number.to_string())).expect("linked");
                    }
                    for number in 1..50 {
                        fs::remove_file(fd.join(number.to_string())).expect("removed");
                    }
                }
            });
            let reads: Vec<_> = (0..2_000).map(|_| reader.read(7).map(|()| reader.slots(7).to_vec())).collect();
            stop.store(true, Ordering::Relaxed);
            for entries in reads {
                let entries = entries.expect("reads");
                assert!(entries.iter().any(|it| it.fd == 0), "what stays is always seen");
                assert!(entries.iter().all(|it| it.referent.inode == Some(it.fd.max(1) as u64)));
            }
        });
    }

    #[test]
    fn a_process_that_ends_while_we_walk_is_gone_and_never_closed_to_us() {
        if !unprivileged("sample::descriptors::tests::a_process_that_ends_while_we_walk_is_gone_and_never_closed_to_us")
        {
            return;
        }
        let mut reader = DescriptorReader::new(&ProcFs::system());
        for _ in 0..20 {
            let mut child = Command::new("/bin/true").spawn().expect("starts");
            // It is not reaped meanwhile, so that its pid is nobody else's: the last looks see a zombie.
            let begun = Instant::now();
            loop {
                match reader.read(child.id()) {
                    Ok(_) => {}
                    Err(ReadError::Gone(_)) => break,
                    Err(error) => panic!("{error}"),
                }
                assert!(begun.elapsed() < Duration::from_secs(20));
            }
            child.wait().expect("ends");
            assert!(matches!(reader.read(child.id()), Err(ReadError::Gone(_))));
        }
    }

    #[test]
    fn a_folder_that_we_may_not_read_is_told_from_a_process_that_has_ended() {
        if !unprivileged(
            "sample::descriptors::tests::a_folder_that_we_may_not_read_is_told_from_a_process_that_has_ended",
        ) {
            return;
        }
        let folder = tempfile::tempdir().expect("a scratch folder");
        let fd = folder.path().join("7/fd");
        fs::create_dir_all(&fd).expect("made");
        let (stat, text) = (folder.path().join("7/stat"), "7 (a) S 1 7 7 0 -1 0 1 0 0 0 3 4 0 0 20 0 5 0 12345");
        fs::write(&stat, text).expect("written");
        fs::set_permissions(&fd, fs::Permissions::from_mode(0o0)).expect("set");
        let mut reader = DescriptorReader::new(&ProcFs::at(folder.path().to_owned()));
        assert!(matches!(reader.read(7), Err(ReadError::Denied { path }) if path == fd));
        fs::write(&stat, text.replace('S', "Z")).expect("written");
        assert!(matches!(reader.read(7), Err(ReadError::Gone(7))));
        fs::write(&stat, text.replace("-1 0", "-1 4194564")).expect("written");
        assert!(matches!(reader.read(7), Err(ReadError::Gone(7))));
        fs::remove_file(&stat).expect("removed");
        assert!(matches!(reader.read(7), Err(ReadError::Gone(7))));
        fs::set_permissions(&fd, fs::Permissions::from_mode(0o700)).expect("set");
        symlink("pipe:[1]", fd.join("0")).expect("linked");
        assert_eq!(reader.read(7).map(|()| reader.slots(7).len()).ok(), Some(1), "it may be read again later");
    }

    /// What descriptor 3 of process 7 leads to, once its link is this.
    fn relinked(folder: &Path, reader: &mut DescriptorReader, link: &Path) -> Referent {
        let three = folder.join("7/fd/3");
        fs::create_dir_all(folder.join("7/fd")).expect("made");
        let _ = fs::remove_file(&three);
        symlink(link, &three).expect("linked");
        reader.read(7).expect("reads");
        reader.slots(7)[0].referent.clone()
    }

    #[test]
    fn a_file_that_is_renamed_or_deleted_while_open_stays_the_same() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let mut reader = DescriptorReader::new(&ProcFs::at(folder.path().to_owned()));
        let (log, rotated) = (folder.path().join("log"), folder.path().join("log.1"));
        fs::write(&log, "1").expect("written");
        let first = relinked(folder.path(), &mut reader, &log);
        fs::rename(&log, &rotated).expect("renamed");
        let renamed = relinked(folder.path(), &mut reader, &rotated);
        assert_eq!((renamed.identity, renamed.name.as_deref()), (first.identity, rotated.to_str()));
        fs::write(&log, "2").expect("written");
        assert_ne!(relinked(folder.path(), &mut reader, &log).identity, first.identity, "another file in its slot");
        let gone = relinked(folder.path(), &mut reader, Path::new("/gone"));
        assert_ne!(relinked(folder.path(), &mut reader, Path::new("/gone too")).identity, gone.identity);

        let mut real = DescriptorReader::new(&ProcFs::system());
        let open = fs::File::open(&rotated).expect("opens");
        let mut of_open = || {
            real.read(std::process::id()).expect("reads");
            let slots = real.slots(std::process::id());
            slots.iter().find(|it| it.fd == open.as_raw_fd()).expect("is open").referent.clone()
        };
        let before = of_open();
        fs::remove_file(&rotated).expect("removed");
        let after = of_open();
        assert_eq!(after.identity, before.identity);
        assert!(after.name.is_some_and(|name| name.ends_with(" (deleted)")));
    }

    #[test]
    fn a_process_that_is_gone_or_closed_to_us_is_told_apart() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let mut reader = DescriptorReader::new(&ProcFs::at(folder.path().to_owned()));
        assert!(matches!(reader.read(7), Err(ReadError::Gone(7))));
        fs::create_dir_all(folder.path().join("7")).expect("made");
        fs::write(folder.path().join("7/fd"), "no folder").expect("written");
        assert!(matches!(reader.read(7), Err(ReadError::Io { .. })));
    }
}
