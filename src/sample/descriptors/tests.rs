//! Reading descriptors: real ones of our own, and trees that look like `/proc`.

use super::*;
use crate::sample::unprivileged;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::fcntl_dupfd_cloexec;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

fn kinds(reader: &mut DescriptorReader) -> Vec<(i32, Kind)> {
    reader.read(7).expect("reads");
    reader.slots(7).iter().map(|slot| (slot.fd, slot.referent.kind)).collect()
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
    assert_eq!(kinds(&mut reader), [(0, Kind::Pipe), (1, Kind::Socket), (2, Kind::Eventfd), (3, Kind::File)]);
    fs::remove_file(fd.join("1")).expect("removed");
    symlink("anon_inode:inotify", fd.join("1")).expect("linked");
    assert_eq!(kinds(&mut reader), [(0, Kind::Pipe), (1, Kind::Inotify), (2, Kind::Eventfd), (3, Kind::File)]);
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
        let reads: Vec<Result<Vec<_>, _>> = (0..2_000)
            .map(|_| {
                reader.read(7)?;
                Ok::<_, ReadError>(reader.slots(7).iter().map(|it| (it.fd, it.referent.inode)).collect())
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        for slots in reads {
            let slots = slots.expect("reads");
            assert!(slots.iter().any(|(fd, _)| *fd == 0), "what stays is always seen");
            assert!(slots.iter().all(|(fd, inode)| *inode == Some((*fd).max(1) as u64)));
            assert!(slots.is_sorted_by_key(|(fd, _)| *fd));
        }
    });
}

#[test]
fn a_process_that_ends_while_we_walk_is_gone_and_never_closed_to_us() {
    if !unprivileged("sample::descriptors::tests::a_process_that_ends_while_we_walk_is_gone_and_never_closed_to_us") {
        return;
    }
    let mut reader = DescriptorReader::new(&ProcFs::system());
    for _ in 0..20 {
        let mut child = Command::new("/bin/true").spawn().expect("starts");
        // It is not reaped meanwhile, so that its pid is nobody else's: the last looks see a zombie.
        let begun = Instant::now();
        loop {
            match reader.read(child.id()) {
                Ok(()) => {}
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
    if !unprivileged("sample::descriptors::tests::a_folder_that_we_may_not_read_is_told_from_a_process_that_has_ended")
    {
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
    reader.read(7).expect("it may be read again later");
    assert_eq!(reader.slots(7).len(), 1);
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
        let mut slots = real.slots(std::process::id()).iter();
        slots.find(|it| it.fd == open.as_raw_fd()).expect("is open").referent.clone()
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

/// Ours, by their descriptors; those that are no longer open are left out.
fn ours<'a>(reader: &'a mut DescriptorReader, fds: &[i32]) -> Vec<&'a Slot> {
    reader.read(std::process::id()).expect("reads");
    let slots = reader.slots(std::process::id());
    fds.iter().filter_map(|fd| slots.iter().find(|slot| slot.fd == *fd)).collect()
}

/// A copy under a number that nothing else is given, for tests run side by side in one process.
fn copy_at(file: &OwnedFd, at_least: i32) -> OwnedFd {
    fcntl_dupfd_cloexec(file, at_least).expect("duplicated")
}

#[test]
fn a_file_that_moves_to_another_descriptor_stays_the_same() {
    let mut reader = DescriptorReader::new(&ProcFs::system());
    if reader.note().is_some() {
        eprintln!("SKIPPED: kcmp is refused here");
        return;
    }
    let made = || eventfd(0, EventfdFlags::CLOEXEC).expect("opens");
    let (first, other) = (copy_at(&made(), 700), copy_at(&made(), 700));
    let fds = [first.as_raw_fd(), other.as_raw_fd()];
    let [one, two] = ours(&mut reader, &fds)[..] else { panic!("both are open") };
    assert_ne!(one.referent.identity, two.referent.identity, "two of one inode");
    let identity = one.referent.identity;
    let moved = copy_at(&first, 750);
    assert_eq!(ours(&mut reader, &[moved.as_raw_fd()])[0].referent.identity, identity);
    drop(first);
    let left = ours(&mut reader, &[moved.as_raw_fd()]);
    assert_eq!((left[0].referent.identity, left[0].news), (identity, false));
}

#[test]
fn a_child_shares_what_its_parent_has_open() {
    let mut reader = DescriptorReader::new(&ProcFs::system());
    if reader.note().is_some() {
        eprintln!("SKIPPED: kcmp is refused here");
        return;
    }
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = fs::File::create(folder.path().join("shared")).expect("made");
    // What a child is given as its standard output is our descriptor's file.
    let mut cat = Command::new("cat");
    cat.stdin(std::process::Stdio::piped()).stdout(file.try_clone().expect("duplicated"));
    let mut child = cat.spawn().expect("starts");
    let own = ours(&mut reader, &[file.as_raw_fd()])[0].referent.identity;
    reader.read(child.id()).expect("reads");
    let its = reader.slots(child.id()).iter().find(|slot| slot.fd == 1).expect("is open");
    assert_eq!(its.referent.identity, own);
    drop(child.stdin.take());
    child.wait().expect("ends");
    assert!(matches!(reader.read(child.id()), Err(ReadError::Gone(_))));
    assert!(reader.slots(child.id()).is_empty());
}

#[test]
fn a_file_that_is_used_is_news_and_then_silent() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let mut file = fs::File::create(folder.path().join("log")).expect("made");
    let kept = copy_at(&file.try_clone().expect("duplicated").into(), 760);
    let fds = [kept.as_raw_fd()];
    let mut reader = DescriptorReader::new(&ProcFs::system());
    reader.ask_all_details();
    let told = |slot: &Slot| (slot.news, slot.referent.detail.as_ref().and_then(|it| it.offset));
    let first = ours(&mut reader, &fds);
    assert_eq!((told(first[0]), first[0].referent.activity.silent_seconds), ((true, Some(0)), None));
    assert_eq!(told(ours(&mut reader, &fds)[0]), (false, Some(0)));
    file.write_all(b"a line").expect("written");
    let used = ours(&mut reader, &fds);
    assert_eq!(told(used[0]), (true, Some(6)));
    let silent = used[0].referent.activity.silent_seconds.expect("is known now");
    let later = ours(&mut reader, &fds);
    assert_eq!(told(later[0]), (false, Some(6)));
    assert!(later[0].referent.activity.silent_seconds.expect("is known") > silent);
}

#[test]
fn a_fifo_tells_by_its_inode_when_it_was_used() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).expect("made");
    let mut fifo = fs::File::options().read(true).write(true).open(&path).expect("opens");
    // Long ago, so that the next use is another moment, however coarse the kernel's clock.
    fifo.set_times(fs::FileTimes::new().set_accessed(UNIX_EPOCH).set_modified(UNIX_EPOCH)).expect("set");
    let kept = copy_at(&fifo.try_clone().expect("duplicated").into(), 770);
    let mut reader = DescriptorReader::new(&ProcFs::system());
    let told = |slot: &Slot| (slot.news, slot.referent.activity.silent_seconds.is_some());
    assert_eq!(told(ours(&mut reader, &[kept.as_raw_fd()])[0]), (true, false));
    fifo.write_all(b"x").expect("written");
    fifo.read_exact(&mut [0]).expect("read");
    let used = ours(&mut reader, &[kept.as_raw_fd()]);
    assert_eq!(told(used[0]), (true, true));
    assert!(used[0].referent.activity.silent_seconds.is_some_and(|silent| silent < 60.0));
    let detail = used[0].referent.detail.as_ref().expect("has one");
    assert_eq!(detail.end.as_deref(), Some("both"));
}

#[test]
fn many_files_take_turns() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let fd = folder.path().join("7/fd");
    fs::create_dir_all(&fd).expect("made");
    fs::create_dir_all(folder.path().join("7/fdinfo")).expect("made");
    for number in 0..1_000 {
        symlink(format!("/data/{number}"), fd.join(number.to_string())).expect("linked");
        fs::write(folder.path().join(format!("7/fdinfo/{number}")), "pos:\t0\n").expect("written");
    }
    let mut reader = DescriptorReader::new(&ProcFs::at(folder.path().to_owned()));
    let mut looked_at = || {
        reader.read(7).expect("reads");
        let with_offset = |slot: &&Slot| slot.referent.detail.as_ref().is_some_and(|it| it.offset.is_some());
        reader.slots(7).iter().filter(with_offset).count()
    };
    assert_eq!([(); 5].map(|()| looked_at()), [256, 512, 768, 1_000, 1_000]);
}

#[test]
fn watches_of_every_instance_are_counted_once() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    for (pid, watches) in [(7, 2), (8, 3)] {
        fs::create_dir_all(folder.path().join(format!("{pid}/fd"))).expect("made");
        fs::create_dir_all(folder.path().join(format!("{pid}/fdinfo"))).expect("made");
        symlink("anon_inode:inotify", folder.path().join(format!("{pid}/fd/3"))).expect("linked");
        let text = "inotify wd:1 ino:1\n".repeat(watches);
        fs::write(folder.path().join(format!("{pid}/fdinfo/3")), text).expect("written");
    }
    let mut reader = DescriptorReader::new(&ProcFs::at(folder.path().to_owned()));
    assert_eq!(reader.inotify_watches(), None, "there is none");
    [7, 8].map(|pid| reader.read(pid).expect("reads"));
    assert_eq!(reader.inotify_watches(), Some(5));
    symlink("anon_inode:inotify", folder.path().join("8/fd/4")).expect("linked");
    reader.read(8).expect("reads");
    assert_eq!(reader.inotify_watches(), None, "one of them could not be asked");
    reader.forget(8);
    assert_eq!(reader.inotify_watches(), Some(2));
    reader.forget(7);
    assert_eq!(reader.inotify_watches(), Some(0), "there was one");
}

#[test]
fn one_descriptor_is_told_with_its_details() {
    let reader = DescriptorReader::new(&ProcFs::system());
    let event = eventfd(5, EventfdFlags::CLOEXEC).expect("opens");
    let slot = reader.examine_one(std::process::id(), event.as_raw_fd()).expect("is open");
    assert_eq!((slot.referent.kind, slot.referent.detail.and_then(|it| it.count)), (Kind::Eventfd, Some(5)));
    assert!(reader.examine_one(std::process::id(), 999_999).is_none());
}
