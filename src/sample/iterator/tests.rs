use super::files::Rows;
use super::*;
use crate::bpf::Unavailable;
use crate::model::{Access, Address, ProcessHoldings, SocketType, State};
use crate::sample::{ProcFs, sockets::SocketReader};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
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

/// Likewise for all processes.
fn machine() -> Option<MachineIterator> {
    iterator()?;
    Some(MachineIterator::open().expect("opens"))
}

/// A child that is killed when the test ends.
struct Ended(Child);

impl Ended {
    /// A `cat` that reads a pipe of ours and has read from it: its descriptors stay as they are.
    fn cat() -> Self {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        child.stdin.as_mut().expect("stdin").write_all(b"x").expect("writes");
        child.stdout.as_mut().expect("stdout").read_exact(&mut [0]).expect("reads");
        Ended(child)
    }

    /// The numbers of its descriptors.
    fn descriptors(&self) -> Vec<i32> {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).expect("lists");
        let number = |name: std::ffi::OsString| name.to_string_lossy().parse().expect("a number");
        let mut numbers: Vec<i32> = folder.map(|entry| number(entry.expect("entry").file_name())).collect();
        numbers.sort_unstable();
        numbers
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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
    let mut child = Ended::cat();
    let pid = child.0.id();
    let listed = child.descriptors();
    let read: Vec<i32> = iterator.read(pid).expect("reads").iter().map(Row::fd).collect();
    child.0.kill().expect("kills");
    child.0.wait().expect("ends");
    assert_eq!(read, listed);
    assert_eq!(iterator.read(pid).expect("reads").len(), 0, "it has ended");
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
    let mut reader = SocketReader::new(&ProcFs::system(), true);
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

#[test]
fn details_are_told_of_the_sockets_that_are_asked_for() {
    let Some(mut iterator) = iterator() else { return };
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("it");
    let listener = UnixListener::bind(&path).expect("binds");
    let client = UnixStream::connect(&path).expect("connects");
    let name = SocketAddr::from_abstract_name(format!("unclosed-{}", std::process::id())).expect("name");
    let hidden = UnixDatagram::bind_addr(&name).expect("binds");
    let inet = TcpListener::bind("127.0.0.1:0").expect("listens");
    let waits = TcpStream::connect(inet.local_addr().expect("address")).expect("connects");
    let (other, _) = UnixStream::pair().expect("pair");
    let asked = [listener.as_raw_fd(), client.as_raw_fd(), hidden.as_raw_fd(), inet.as_raw_fd(), waits.as_raw_fd()];
    let files: Vec<u64> =
        asked.map(|fd| own(&mut iterator).iter().find(|row| row.fd() == fd).expect("row").file()).into();
    let details: Vec<SocketDetail<'_>> = iterator.details(std::process::id(), asked).expect("reads").collect();
    assert!(details.is_sorted_by_key(|detail| detail.fd()));
    assert_eq!(details.len(), asked.len(), "not of {other:?}");
    let of = |fd: &dyn AsRawFd| *details.iter().find(|detail| detail.fd() == fd.as_raw_fd()).expect("is told");
    let bytes = path.as_os_str().as_encoded_bytes();
    let starts = |name: Option<&[u8]>| name.is_some_and(|name| name.strip_suffix(b"\0").unwrap_or(name) == bytes);
    assert!(starts(of(&listener).name()) && starts(of(&client).peer_name()));
    assert_eq!((of(&listener).peer_name(), of(&client).name()), (None, None));
    assert_eq!(of(&hidden).name(), Some([b"\0", name.as_abstract_name().expect("abstract")].concat().as_slice()));
    assert_eq!(of(&listener).file(), files[0]);
    assert_eq!((of(&inet).protocol(), of(&client).protocol()), ("TCP".into(), "UNIX-STREAM".into()));
    assert_eq!((of(&inet).receive_queue(), of(&inet).send_queue().is_some()), (Some(1), true), "one waits");
    assert_eq!((of(&waits).receive_queue(), of(&waits).send_queue()), (Some(0), Some(0)));
    assert_eq!((of(&waits).retransmits(), of(&waits).congestion_state()), (Some(0), Some(0)));
    assert_eq!((of(&inet).retransmits(), of(&listener).receive_queue()), (None, None));
    assert_eq!(of(&inet).uid(), rustix::process::getuid().as_raw());
    assert!(of(&inet).cgroup().is_some());
    assert_eq!(iterator.details(std::process::id(), []).expect("reads").count(), 0);
}

#[test]
fn queues_are_told_in_bytes() {
    let Some(mut iterator) = iterator() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let mut client = TcpStream::connect(listener.local_addr().expect("address")).expect("connects");
    let (server, _) = listener.accept().expect("accepts");
    client.write_all(b"twelve bytes").expect("writes");
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("binds");
    UdpSocket::bind("127.0.0.1:0")
        .expect("binds")
        .send_to(b"x", receiver.local_addr().expect("address"))
        .expect("sends");
    // Both have arrived once they can be looked at.
    server.peek(&mut [0]).expect("arrives");
    receiver.peek(&mut [0]).expect("arrives");
    let asked = [server.as_raw_fd(), receiver.as_raw_fd()];
    let told: Vec<_> =
        iterator.details(std::process::id(), asked).expect("reads").map(SocketDetail::receive_queue).collect();
    assert_eq!(told[0], Some(12));
    // With what the kernel needs around it.
    assert!(told[1].is_some_and(|bytes| bytes > 0), "{told:?}");
}

#[test]
fn the_whole_machine_is_summed_up_by_process() {
    let Some(mut machine) = machine() else { return };
    let cat = Ended::cat();
    let before = machine.read_all(Duration::from_secs(3600)).expect("reads");
    let own = |all: &[ProcessHoldings]| all.iter().find(|it| it.pid == std::process::id()).expect("is there").clone();
    let idle = before.iter().find(|it| it.pid == cat.0.id()).expect("is there");
    assert_eq!(idle.descriptors, Some(cat.descriptors().len() as u64));
    assert_eq!((idle.connections, idle.silent), (Some(0), Some(0)));
    let pids: std::collections::HashSet<u32> = before.iter().map(|it| it.pid).collect();
    assert_eq!(pids.len(), before.len(), "one row for each process");

    // A process of its own, so that no other test opens anything in it meanwhile.
    let script = "import socket, sys
listener = socket.create_server(('127.0.0.1', 0))
clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
served = [listener.accept()[0] for _ in clients]
served[0].close()
clients[0].recv(1)
pair = socket.socketpair()
udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
udp[0].bind(('127.0.0.1', 0))
udp[1].connect(udp[0].getsockname())
print('ready', flush=True)
sys.stdin.read()";
    let mut python = Command::new("python3");
    let python = python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut python = Ended(python.expect("starts"));
    let mut said = [0; 5];
    python.0.stdout.as_mut().expect("stdout").read_exact(&mut said).expect("is ready");
    let counted = machine.read_all(Duration::from_secs(3600)).expect("reads");
    let counted = counted.into_iter().find(|it| it.pid == python.0.id()).expect("is there");
    let expected = ProcessHoldings {
        pid: python.0.id(),
        descriptors: Some(python.descriptors().len() as u64),
        sockets: Some(1 + 5 + 4 + 2 + 2),
        connections: Some(5 + 4 + 2 + 1),
        silent: Some(0),
        close_wait: Some(1),
        listening: Some(1),
    };
    assert_eq!(counted, expected);
    std::thread::sleep(Duration::from_millis(40));
    let silent = machine.read_all(Duration::from_millis(5)).expect("reads");
    let silent = silent.into_iter().find(|it| it.pid == python.0.id()).expect("is there");
    assert_eq!(silent, ProcessHoldings { silent: Some(9), ..expected });
    assert!(own(&before).descriptors > Some(0));
}

#[test]
fn owners_of_sockets_and_pipes_are_found() {
    let Some(mut machine) = machine() else { return };
    let (ours, theirs) = UnixStream::pair().expect("pair");
    let mut child = Ended::cat();
    let write = child.0.stdin.take().expect("stdin");
    let owners = machine.owners([inode(&ours), inode(&write)]).expect("reads");
    let found = |pid: u32, fd: i32| owners.iter().find(|it| (it.pid, it.fd) == (pid, fd)).copied();
    let own = std::process::id();
    assert_eq!(found(own, ours.as_raw_fd()).map(|it| (it.kind, it.inode)), Some((FileKind::Socket, inode(&ours))));
    assert_eq!(found(own, theirs.as_raw_fd()), None);
    assert_eq!(
        found(own, write.as_raw_fd()).map(|it| (it.kind, it.access)),
        Some((FileKind::Fifo, Some(Access::Write)))
    );
    assert_eq!(found(child.0.id(), 0).map(|it| it.access), Some(Some(Access::Read)));
    assert_eq!(machine.owners([]).expect("reads"), []);
    assert_eq!(
        machine.owners([inode(&theirs)]).expect("reads").iter().filter(|it| it.pid == own).count(),
        1,
        "only it"
    );
}

/// Runs these cases of this binary again by a program that changes what they stand in, and says how many passed.
fn again(by: &[&str], cases: &[&str]) -> Option<usize> {
    let mut command = Command::new(by[0]);
    let this = std::env::current_exe().expect("our own path");
    let done = command.args(&by[1..]).arg(this).args(cases).arg("--show-output").output().ok()?;
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && !said.contains("SKIPPED"), "{said}{}", String::from_utf8_lossy(&done.stderr));
    Some(said.matches("... ok").count())
}

#[test]
fn pids_are_those_of_our_own_namespace() {
    if iterator().is_none() {
        return;
    }
    let cases = ["the_whole_machine_is_summed_up_by_process", "owners_of_sockets", "each_descriptor_is_a_row"];
    match again(&["unshare", "--pid", "--fork", "--mount-proc"], &cases) {
        Some(passed) => assert_eq!(passed, cases.len()),
        None => eprintln!("SKIPPED: there is no unshare"),
    }
}

#[test]
fn what_is_lacking_is_named() {
    let lacking = |why: &Unavailable| why.to_string();
    if std::env::var_os("UNCLOSED_TEST_LACKS_BPF").is_some() {
        let why = FileIterator::open().expect_err("may not");
        assert!(matches!(why, Unavailable::NoPermission(_)), "{why}");
        assert!(lacking(&why).contains("CAP_BPF (or"), "{why}");
        return;
    }
    if iterator().is_none() {
        return;
    }
    let set = "--bounding-set=-bpf,-sys_admin";
    let by = ["env", "UNCLOSED_TEST_LACKS_BPF=1", "setpriv", set, "--inh-caps=-bpf,-sys_admin"];
    match again(&by, &["what_is_lacking_is_named"]) {
        Some(passed) => assert_eq!(passed, 1),
        None => eprintln!("SKIPPED: there is no setpriv"),
    }
}

#[test]
fn two_capabilities_are_enough() {
    if iterator().is_none() {
        return;
    }
    let set = "--bounding-set=-all,+bpf,+perfmon";
    match again(&["setpriv", set, "--inh-caps=-all"], &["a_connection_is_told_with_both_ends", "owners_of_sockets"]) {
        Some(passed) => assert_eq!(passed, 2),
        None => eprintln!("SKIPPED: there is no setpriv"),
    }
}

/// Prints what loading and reading cost, of the process `UNCLOSED_MEASURE_PID` or of ourselves; a figure, not a check.
#[test]
#[ignore = "a figure for the journal: run it by name, in a release build, with --nocapture"]
fn what_a_pass_costs() {
    let cpu = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
    };
    let memory = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("status");
        let lines: Vec<&str> =
            status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS")).collect();
        lines.join(" ").split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    };
    let pid = std::env::var("UNCLOSED_MEASURE_PID").ok().and_then(|pid| pid.parse().ok()).unwrap_or(std::process::id());
    println!("before: {}", memory());
    let begun = cpu();
    let Some(mut iterator) = iterator() else { return };
    println!("files loaded: {:.1} ms, {}", cpu() - begun, memory());
    let begun = cpu();
    let mut machine = MachineIterator::open().expect("opens");
    println!("machine loaded: {:.1} ms, {}", cpu() - begun, memory());
    let median = |what: &str, pass: &mut dyn FnMut() -> usize| {
        let mut times: Vec<f64> = Vec::new();
        let mut rows = 0;
        for _ in 0..31 {
            let begun = cpu();
            rows = pass();
            times.push(cpu() - begun);
        }
        times.sort_by(f64::total_cmp);
        let [least, median, most] = [times[0], times[15], times[30]];
        let each = median * 1e3 / rows.max(1) as f64;
        println!("{what}: {rows} rows, {median:.3} ms ({least:.3} to {most:.3}), {each:.3} us a row");
    };
    median("files", &mut || iterator.read(pid).expect("reads").len());
    let mut before: Vec<u8> = Vec::new();
    median("files, and rows with news", &mut || {
        let rows = iterator.read(pid).expect("reads");
        let news =
            rows.bytes().chunks(ROW_BYTES).zip(before.chunks(ROW_BYTES)).filter(|(now, then)| now != then).count();
        before.clear();
        before.extend_from_slice(rows.bytes());
        std::hint::black_box(news);
        rows.len()
    });
    median("details of all", &mut || iterator.details(pid, 0..100_000).expect("reads").count());
    median("details of one", &mut || iterator.details(pid, [0]).expect("reads").count());
    median("holdings", &mut || machine.read_all(Duration::from_secs(60)).expect("reads").len());
    median("owners", &mut || machine.owners([1, 2, 3]).expect("reads").len());
    println!("after: {}", memory());
}
