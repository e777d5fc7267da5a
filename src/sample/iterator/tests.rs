use super::*;
use crate::model::{Access, Address, SocketType, State};
use crate::sample::{ProcFs, sockets::SocketReader};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::Duration;

/// The iterator, or `None` and a word why not where the privilege is lacking.
fn iterator() -> Option<FileIterator> {
    match FileIterator::open() {
        Ok(iterator) => Some(iterator),
        Err(why @ Unavailable::Other(_)) => panic!("{why}"),
        Err(why) => {
            eprintln!("SKIPPED: {why}");
            None
        }
    }
}

/// Our own rows now.
fn own(iterator: &mut FileIterator) -> Rows<'_> {
    iterator.read(std::process::id()).expect("reads")
}

/// Our own row of that descriptor.
fn row<'a>(rows: Rows<'a>, of: &impl AsRawFd) -> Row<'a> {
    rows.iter().find(|row| row.fd() == of.as_raw_fd()).expect("is there")
}

fn inode(of: &impl AsFd) -> u64 {
    rustix::fs::fstat(of).expect("stat").st_ino
}

#[test]
fn each_descriptor_is_a_row() {
    let Some(mut iterator) = iterator() else { return };
    let child = std::process::Command::new("sleep").arg("1000").stdin(std::process::Stdio::piped()).spawn();
    let mut child = child.expect("starts");
    // Once it is `sleep`, its descriptors stay as they are.
    while std::fs::read_to_string(format!("/proc/{}/comm", child.id())).expect("comm") != "sleep\n" {
        std::thread::yield_now();
    }
    let folder = std::fs::read_dir(format!("/proc/{}/fd", child.id())).expect("lists");
    let mut listed: Vec<i32> =
        folder.map(|entry| entry.expect("entry").file_name().to_string_lossy().parse().expect("number")).collect();
    listed.sort_unstable();
    let read: Vec<i32> = iterator.read(child.id()).expect("reads").iter().map(Row::fd).collect();
    child.kill().expect("kills");
    child.wait().expect("ends");
    assert_eq!(read, listed);
    assert_eq!(iterator.read(child.id()).expect("reads").len(), 0, "it has ended");
}

#[test]
fn a_connection_is_told_with_both_ends() {
    let Some(mut iterator) = iterator() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connects");
    let (mut server, _) = listener.accept().expect("accepts");
    server.write_all(b"hello").expect("writes");
    let mut read = [0; 5];
    (&client).read_exact(&mut read).expect("reads");
    let rows = own(&mut iterator);
    let (heard, spoken, listens) = (row(rows, &client), row(rows, &server), row(rows, &listener));
    assert_eq!(heard.inode(), inode(&client));
    assert_eq!((heard.kind(), heard.is_tcp(), heard.is_ipv6()), (FileKind::Socket, true, false));
    assert_eq!(heard.local(), client.local_addr().ok().map(Address::Inet));
    assert_eq!(heard.remote(), listener.local_addr().ok().map(Address::Inet));
    assert_eq!(spoken.remote(), heard.local());
    assert_eq!((heard.bytes_sent(), heard.bytes_received()), (Some(0), Some(5)));
    assert_eq!(spoken.bytes_received(), Some(0));
    assert_eq!((heard.state(), listens.state()), (Some(State::Established), Some(State::Listen)));
    assert!(heard.silent_seconds(rows.clock).is_some_and(|silent| silent < 60.0));
    assert_eq!((listens.remote(), listens.bytes_sent(), listens.silent_seconds(rows.clock)), (None, None, None));
}

#[test]
fn a_connection_is_told_as_sock_diag_tells_it() {
    let Some(mut iterator) = iterator() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address = listener.local_addr().expect("address");
    let mut sockets = Vec::new();
    let mut pair = |talk: fn(&TcpStream, &TcpStream)| {
        let client = TcpStream::connect(address).expect("connects");
        let (server, _) = listener.accept().expect("accepts");
        sockets.extend([client, server]);
        // Time itself is what is told here: each pair has had its last byte at a time of its own.
        std::thread::sleep(Duration::from_millis(40));
        let [.., client, server] = sockets.as_slice() else { unreachable!() };
        talk(client, server);
    };
    pair(|_, _| {});
    pair(|mut client, _| client.write_all(b"never read").expect("writes"));
    pair(|mut client, mut server| {
        client.write_all(b"both").expect("writes");
        server.read_exact(&mut [0; 4]).expect("reads");
        server.write_all(b"ways").expect("writes");
        client.read_exact(&mut [0; 4]).expect("reads");
    });
    pair(|client, mut server| {
        server.write_all(b"and closed").expect("writes");
        client.shutdown(Shutdown::Write).expect("shuts down");
    });
    std::thread::sleep(Duration::from_millis(40));

    let inodes: Vec<u64> = sockets.iter().map(inode).collect();
    let mut reader = SocketReader::new(&ProcFs::system());
    let mut diag = || reader.read([(std::process::id(), inodes.iter().copied())].into_iter());
    let before = diag();
    let rows = own(&mut iterator);
    let after = diag();
    let tick = 2.0 / rows.clock.ticks_per_second;
    for socket in &sockets {
        let row = row(rows, socket);
        let told = &before[&row.inode()];
        assert_eq!((row.local(), row.remote()), (told.local.clone(), told.remote.clone()));
        assert_eq!(row.state(), told.state);
        assert_eq!(row.shutdown() & 1 != 0, told.state == Some(State::CloseWait), "the peer sends no more");
        assert_eq!(row.bytes_sent(), told.activity.bytes_sent);
        assert_eq!(row.bytes_received(), told.activity.bytes_received);
        let silent = row.silent_seconds(rows.clock).expect("is known");
        let [least, most] = [&before, &after].map(|it| it[&row.inode()].activity.silent_seconds.expect("is known"));
        assert!(silent > least - tick && silent < most + tick, "{silent} is not within {least} and {most}");
    }
}

#[test]
fn addresses_of_ipv6_mapped_ones_and_udp() {
    let Some(mut iterator) = iterator() else { return };
    let both = TcpListener::bind("[::]:0").expect("listens");
    let port = both.local_addr().expect("address").port();
    let six = TcpStream::connect(("::1", port)).expect("connects");
    let four = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    let accepted = [both.accept().expect("accepts").0, both.accept().expect("accepts").0];
    let free = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let bound = UdpSocket::bind("127.0.0.1:0").expect("binds");
    bound.connect(free.local_addr().expect("address")).expect("connects");
    let rows = own(&mut iterator);
    let client = row(rows, &six);
    assert_eq!(client.remote().map(|it| it.to_string()), Some(format!("[::1]:{port}")));
    assert_eq!(client.local(), six.local_addr().ok().map(Address::Inet));
    let mapped = accepted.iter().map(|it| row(rows, it)).find(|it| it.remote() == row(rows, &four).local());
    assert!(mapped.is_some_and(|it| it.is_ipv6() && it.is_tcp()), "accepted by the IPv6 socket, from an IPv4 address");
    assert_eq!(row(rows, &bound).remote(), free.local_addr().ok().map(Address::Inet));
    let free = row(rows, &free);
    assert_eq!((free.remote(), free.is_inet(), free.is_tcp(), free.protocol()), (None, true, false, 17));
    assert_eq!(free.silent_seconds(rows.clock), None);
}

#[test]
fn unix_sockets_name_their_peers() {
    let Some(mut iterator) = iterator() else { return };
    let (ours, theirs) = UnixStream::pair().expect("pair");
    let (left, gone) = UnixStream::pair().expect("pair");
    drop(gone);
    let folder = tempfile::tempdir().expect("folder");
    let listener = UnixListener::bind(folder.path().join("it")).expect("binds");
    let client = UnixStream::connect(folder.path().join("it")).expect("connects");
    let alone = UnixDatagram::unbound().expect("socket");
    let rows = own(&mut iterator);
    assert_eq!(row(rows, &ours).peer_inode(), Some(inode(&theirs)));
    assert_eq!(row(rows, &ours).state(), Some(State::Established));
    assert_eq!(row(rows, &left).peer_inode(), Some(0), "a peer that has been closed");
    assert_eq!((row(rows, &listener).peer_inode(), row(rows, &listener).state()), (None, Some(State::Listen)));
    assert!(row(rows, &client).peer_inode().is_some(), "not yet accepted");
    let alone = row(rows, &alone);
    assert_eq!((alone.socket_type(), alone.peer_inode()), (Some(SocketType::Datagram), None));
    assert_eq!((alone.state(), alone.is_unix()), (Some(State::Close), true));
}

#[test]
fn descriptors_of_one_file_share_its_address() {
    let Some(mut iterator) = iterator() else { return };
    let file = tempfile::tempfile().expect("file");
    let again = file.try_clone().expect("dup");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let opened = File::open(path).expect("opens");
    let events = [(); 2].map(|()| rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("eventfd"));
    let rows = own(&mut iterator);
    assert_eq!(rows.bytes().len(), rows.len() * ROW_BYTES);
    let [one, two] = [&events[0], &events[1]].map(|event| row(rows, event));
    assert_eq!(one.inode(), two.inode());
    assert_ne!((one.file(), one.private_data()), (two.file(), two.private_data()));
    assert_eq!(row(rows, &file).file(), row(rows, &again).file());
    assert_ne!(row(rows, &file).file(), row(rows, &opened).file());
    assert_eq!(row(rows, &file).inode(), row(rows, &opened).inode());
}

#[test]
fn a_row_changes_with_what_is_worth_telling_and_only_then() {
    let Some(mut iterator) = iterator() else { return };
    let folder = tempfile::tempdir().expect("folder");
    let (path, other) = (folder.path().join("a"), folder.path().join("b"));
    let mut file = File::create(&path).expect("creates");
    let (mut ours, _theirs) = UnixStream::pair().expect("pair");
    let mut news = |file: &File, last: &mut Vec<u8>| {
        let rows = own(&mut iterator);
        let row = row(rows, file);
        let before = std::mem::replace(last, row.bytes().to_vec());
        (row.offset(), row.is_deleted(), before != *last)
    };
    let mut last = Vec::new();
    assert_eq!(news(&file, &mut last), (Some(0), false, true));
    assert_eq!(news(&file, &mut last), (Some(0), false, false));
    file.write_all(b"1234567").expect("writes");
    assert_eq!(news(&file, &mut last), (Some(7), false, true));
    std::fs::rename(&path, &other).expect("renames");
    assert_eq!(news(&file, &mut last), (Some(7), false, true));
    std::fs::remove_file(&other).expect("removes");
    assert_eq!(news(&file, &mut last), (Some(7), true, true));
    file.seek(SeekFrom::Start(2)).expect("seeks");
    assert_eq!(news(&file, &mut last), (Some(2), true, true));
    let before = row(own(&mut iterator), &ours).bytes().to_vec();
    ours.write_all(b"a queue that moves").expect("writes");
    assert_eq!(row(own(&mut iterator), &ours).bytes().as_slice(), before);
}

#[test]
fn every_kind_of_file_has_its_own_device_and_access() {
    let Some(mut iterator) = iterator() else { return };
    let (read, write) = io::pipe().expect("pipe");
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("eventfd");
    let null = File::options().read(true).write(true).open("/dev/null").expect("opens");
    let root = File::open("/").expect("opens");
    let regular = tempfile::tempfile().expect("file");
    let flags = rustix::fs::OFlags::PATH;
    let path = rustix::fs::open("/", flags, rustix::fs::Mode::empty()).expect("opens");
    let rows = own(&mut iterator);
    let seen = |of: &dyn AsRawFd| {
        let row = rows.iter().find(|row| row.fd() == of.as_raw_fd()).expect("is there");
        (row.kind(), row.access())
    };
    assert_eq!(seen(&read), (FileKind::Fifo, Some(Access::Read)));
    assert_eq!(seen(&write), (FileKind::Fifo, Some(Access::Write)));
    assert_eq!(seen(&event), (FileKind::Anonymous, Some(Access::Both)));
    assert_eq!(seen(&null), (FileKind::Character, Some(Access::Both)));
    assert_eq!(seen(&root), (FileKind::Directory, Some(Access::Read)));
    assert_eq!(seen(&regular), (FileKind::Regular, Some(Access::Both)));
    assert_eq!(seen(&path), (FileKind::Directory, None));
    let stat = rustix::fs::fstat(&root).expect("stat");
    let device = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    assert_eq!((row(rows, &root).device(), row(rows, &root).inode()), (device, stat.st_ino));
}
