//! `sock_diag`: the kernel's socket tables over netlink.
//!
//! A dump lists every socket of the network namespace, so it costs what the machine holds, not what the target does.
//! Connections that an earlier dump has shown are therefore asked for one by one, by addresses and cookie, as long as
//! those are fewer by far, and the dump is left to the ticks that see an inode for the first time. An inode that no table
//! lists is looked for again ever more seldom: it may be bound or connected later.
//!
//! Formats: sock_diag(7), `include/uapi/linux/{inet_diag,unix_diag,tcp}.h`. Everything is in the machine's byte order but
//! ports and addresses, which are in the network's.

mod rows;

pub(in crate::sample) use rows::SocketRow;

use super::{Socket, SocketTable};
use crate::model::{Activity, Address, Kind, SocketType, State};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType as NetSocketType, netlink, recv, send, socket_with,
};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `NLM_F_REQUEST`.
const ONE: u16 = 0x1;
const AF_UNIX: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_RAW: u8 = 255;
const INET_DIAG_INFO: u16 = 2;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_PEER: u16 = 2;
/// `UDIAG_SHOW_NAME | UDIAG_SHOW_PEER`.
const UNIX_SHOW: u32 = 0x1 | 0x4;

/// The kernel's tables in the order in which they are asked: what most targets hold comes first, and a later one is asked
/// only while inodes are still unknown.
const TABLES: [(u8, u8, Kind); 7] = [
    (AF_INET, IPPROTO_TCP, Kind::Tcp),
    (AF_INET6, IPPROTO_TCP, Kind::Tcp),
    (AF_UNIX, 0, Kind::Unix),
    (AF_INET, IPPROTO_UDP, Kind::Udp),
    (AF_INET6, IPPROTO_UDP, Kind::Udp),
    (AF_INET, IPPROTO_RAW, Kind::Raw),
    (AF_INET6, IPPROTO_RAW, Kind::Raw),
];

/// A `struct inet_diag_sockid`: ports, addresses, interface and a cookie that no other socket ever has.
type SocketId = [u8; 48];

/// Asking for one socket costs at most as much as so many rows of a dump.
const ROWS_A_LOOKUP: usize = 2;

/// Sockets that are asked for before their answers are read: what the socket's receive buffer holds by default.
const LOOKUPS_AT_ONCE: usize = 32;

/// An inode that no table listed is looked for again after so many reads at the latest.
const RETRY_READS_MAX: u64 = 16;

/// The kernel hands out at most 32 KiB a read.
const BUFFER_BYTES: usize = 65_536;

/// An open `sock_diag` socket. It sees the network namespace it was opened in.
#[derive(Debug)]
pub(in crate::sample) struct SockDiag {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// Where the sockets of the last tick were found.
    known: HashMap<u64, Known>,
    /// Wanted sockets that no table listed: of another family, neither bound nor connected, or reset by the peer.
    absent: HashMap<u64, Absence>,
    /// How many rows the last dump of each table had.
    rows: [usize; TABLES.len()],
    /// How many reads there were.
    reads: u64,
}

/// When a socket that no table listed is looked for again.
#[derive(Debug)]
struct Absence {
    /// The reads to wait, doubled each time.
    wait: u64,
    /// The read that looks again.
    due: u64,
}

/// Where a socket was found.
#[derive(Debug)]
struct Known {
    table: usize,
    /// Zeros for a Unix socket.
    id: SocketId,
}

impl SockDiag {
    /// Opens it; needs no privilege.
    pub(in crate::sample) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, NetSocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
        Ok(SockDiag {
            socket,
            buffer: vec![0; BUFFER_BYTES],
            known: HashMap::new(),
            absent: HashMap::new(),
            rows: [0; TABLES.len()],
            reads: 0,
        })
    }

    /// The rows of the wanted inodes. A family that the kernel was built without is passed over.
    pub(super) fn read(&mut self, wanted: &HashSet<u64>) -> io::Result<SocketTable> {
        self.reads += 1;
        self.absent.retain(|inode, _| wanted.contains(inode));
        let mut found = SocketTable::with_capacity(wanted.len());
        let known = std::mem::take(&mut self.known);
        if wanted.iter().all(|inode| known.contains_key(inode) || self.absent.contains_key(inode)) {
            self.read_known(wanted, &known, &mut found)?;
        }
        let mut all_asked = true;
        for table in 0..TABLES.len() {
            let is_missing = |inode: &u64| !found.contains_key(inode) && self.is_looked_for(*inode);
            if found.len() >= wanted.len() || !wanted.iter().any(is_missing) {
                all_asked = false;
                break;
            }
            self.dump(table, wanted, &mut found)?;
        }
        self.absent.retain(|inode, _| !found.contains_key(inode));
        if all_asked {
            for inode in wanted.iter().filter(|inode| !found.contains_key(inode)) {
                let wait = self.absent.get(inode).map_or(1, |absence| (absence.wait * 2).min(RETRY_READS_MAX));
                self.absent.insert(*inode, Absence { wait, due: self.reads + wait });
            }
        }
        Ok(found)
    }

    /// Whether it is worth a dump: not so while it was in none a short while ago.
    fn is_looked_for(&self, inode: u64) -> bool {
        self.absent.get(&inode).is_none_or(|absence| absence.due <= self.reads)
    }

    /// Asks only the tables that had a wanted socket at the last tick, and for TCP sockets one by one where those are few.
    fn read_known(
        &mut self,
        wanted: &HashSet<u64>,
        known: &HashMap<u64, Known>,
        found: &mut SocketTable,
    ) -> io::Result<()> {
        for (table, (_, _, kind)) in TABLES.into_iter().enumerate() {
            let here = || known.iter().filter(|(inode, known)| known.table == table && wanted.contains(inode));
            let count = here().count();
            if kind == Kind::Tcp && count * ROWS_A_LOOKUP <= self.rows[table] {
                let ids: Vec<&SocketId> = here().map(|(_, known)| &known.id).collect();
                self.look_up(table, &ids, wanted, found)?;
            } else if count > 0 {
                self.dump(table, wanted, found)?;
            }
        }
        Ok(())
    }

    /// Asks a table for single sockets. Those that are gone, or that it had no room to answer for, are left out.
    fn look_up(
        &mut self,
        table: usize,
        ids: &[&SocketId],
        wanted: &HashSet<u64>,
        found: &mut SocketTable,
    ) -> io::Result<()> {
        for ids in ids.chunks(LOOKUPS_AT_ONCE) {
            let requests: Vec<u8> = ids.iter().flat_map(|id| message(ONE, &inet_request(table, id))).collect();
            send(&self.socket, &requests, SendFlags::empty())?;
            // The answers are there when `send` returns, each by itself.
            loop {
                let length = match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                    Ok((_, length)) => length.min(BUFFER_BYTES),
                    Err(Errno::AGAIN) => break,
                    // There was no room for some answer; those before it are still to be read.
                    Err(Errno::NOBUFS) => continue,
                    Err(error) => return Err(error.into()),
                };
                if let Some((SOCK_DIAG_BY_FAMILY, row, _)) = first_message(&self.buffer[..length]) {
                    keep_inet(row, table, wanted, found, &mut self.known);
                }
            }
        }
        Ok(())
    }

    /// Asks a table for all its sockets.
    fn dump(&mut self, table: usize, wanted: &HashSet<u64>, found: &mut SocketTable) -> io::Result<()> {
        let mut known = std::mem::take(&mut self.known);
        let mut rows = 0;
        let dumped = if TABLES[table].2 == Kind::Unix {
            self.dump_unix(table, wanted, found, &mut known)
        } else {
            self.request_all(&inet_request(table, &[0; 48]), |row| {
                rows += 1;
                keep_inet(row, table, wanted, found, &mut known);
            })
        };
        self.known = known;
        self.rows[table] = rows;
        dumped
    }

    fn dump_unix(
        &mut self,
        table: usize,
        wanted: &HashSet<u64>,
        found: &mut SocketTable,
        known: &mut HashMap<u64, Known>,
    ) -> io::Result<()> {
        let mut request = [0u8; 24];
        request[0] = AF_UNIX;
        request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        request[12..16].copy_from_slice(&UNIX_SHOW.to_ne_bytes());
        // A peer's name stands in the peer's own row, wanted or not.
        let mut names: HashMap<u64, Address> = HashMap::new();
        let mut rows = Vec::new();
        self.request_all(&request, |row| {
            let Some((inode, socket)) = parse_unix(row) else { return };
            if let Some(name) = &socket.local {
                names.insert(inode, name.clone());
            }
            if wanted.contains(&inode) {
                rows.push((inode, socket));
            }
        })?;
        for (inode, mut socket) in rows {
            socket.remote = socket.peer_inode.and_then(|peer| names.get(&peer).cloned());
            known.insert(inode, Known { table, id: [0; 48] });
            found.insert(inode, socket);
        }
        Ok(())
    }

    /// Sends a request for many rows and hands each to `take`.
    fn request_all(&mut self, request: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
        send(&self.socket, &message(DUMP, request), SendFlags::empty())?;
        loop {
            let (_, length) = recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = &self.buffer[..length.min(BUFFER_BYTES)];
            if rest.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel sent nothing"));
            }
            while let Some((kind, body, following)) = first_message(rest) {
                match kind {
                    NLMSG_DONE => return Ok(()),
                    // No such family in this kernel (ENOENT), or not asked for by number (EINVAL): no rows.
                    NLMSG_ERROR => {
                        let code = bytes_at(body, 0).map_or(0, i32::from_ne_bytes);
                        return match -code {
                            0 | 2 | 22 => Ok(()),
                            code => Err(io::Error::from_raw_os_error(code)),
                        };
                    }
                    SOCK_DIAG_BY_FAMILY => take(body),
                    _ => {}
                }
                rest = following;
            }
        }
    }
}

/// A `struct nlmsghdr` and what it asks for.
fn message(flags: u16, request: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(16 + request.len());
    message.extend((16 + request.len() as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0u8; 8]);
    message.extend(request);
    message
}

/// The first message of what the kernel sent: its kind, its body, and what follows it.
fn first_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let size = bytes_at(bytes, 0).map(u32::from_ne_bytes)? as usize;
    let kind = bytes_at(bytes, 4).map(u16::from_ne_bytes)?;
    let body = bytes.get(16..size.min(bytes.len()))?;
    Some((kind, body, bytes.get(size.next_multiple_of(4)..).unwrap_or_default()))
}

/// A `struct inet_diag_req_v2`: for one socket, or for all where `id` is zeros.
fn inet_request(table: usize, id: &SocketId) -> [u8; 56] {
    let (family, protocol, kind) = TABLES[table];
    let mut request = [0u8; 56];
    request[0] = family;
    request[1] = protocol;
    request[2] = if kind == Kind::Tcp { 1 << (INET_DIAG_INFO - 1) } else { 0 };
    request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    request[8..].copy_from_slice(id);
    request
}

/// Keeps the row of an internet table if its inode is wanted.
fn keep_inet(
    row: &[u8],
    table: usize,
    wanted: &HashSet<u64>,
    found: &mut SocketTable,
    known: &mut HashMap<u64, Known>,
) {
    if let Some(inode) = bytes_at(row, 68).map(u32::from_ne_bytes).map(u64::from)
        && wanted.contains(&inode)
        && let Some(socket) = parse_inet(row, TABLES[table].2)
        && let Some(id) = bytes_at(row, 4)
    {
        known.insert(inode, Known { table, id });
        found.insert(inode, socket);
    }
}

/// A `struct inet_diag_msg` and its attributes.
fn parse_inet(message: &[u8], kind: Kind) -> Option<Socket> {
    let ipv6 = *message.first()? == AF_INET6;
    let state = State::from_kernel(*message.get(1)?);
    let port = |at| bytes_at(message, at).map(u16::from_be_bytes);
    let address = |at: usize| -> Option<IpAddr> {
        Some(if ipv6 {
            Ipv6Addr::from(bytes_at::<16>(message, at)?).into()
        } else {
            Ipv4Addr::from(bytes_at::<4>(message, at)?).into()
        })
    };
    let local = Address::inet(address(8)?, port(4)?);
    let (remote_ip, remote_port) = (address(24)?, port(6)?);
    let mut activity = Activity::default();
    for (attribute, value) in attributes(message.get(72..)?) {
        if attribute == INET_DIAG_INFO {
            activity = parse_tcp_info(value, state);
        }
    }
    let has_peer = remote_port != 0 || (kind == Kind::Raw && !remote_ip.is_unspecified());
    Some(Socket {
        kind,
        ipv6,
        socket_type: None,
        local: Some(local),
        remote: has_peer.then(|| Address::inet(remote_ip, remote_port)),
        peer_inode: None,
        state: state.filter(|_| kind == Kind::Tcp),
        activity,
    })
}

/// The parts of `struct tcp_info` that say what a connection carried. The kernel's struct only ever grows: what is past
/// its end is not known here.
fn parse_tcp_info(info: &[u8], state: Option<State>) -> Activity {
    if matches!(state, None | Some(State::Listen)) {
        return Activity::default();
    }
    let u32_at = |at| bytes_at(info, at).map(u32::from_ne_bytes);
    let u64_at = |at| bytes_at(info, at).map(u64::from_ne_bytes);
    let sent = u64_at(200).zip(u64_at(208)).map(|(sent, again)| sent.saturating_sub(again));
    let last = u32_at(44).zip(u32_at(52)).map(|(sent, received)| sent.min(received));
    Activity {
        // Before Linux 4.19 only what was acknowledged is counted, the SYN with it.
        bytes_sent: sent.or_else(|| u64_at(120).map(|acknowledged| acknowledged.saturating_sub(1))),
        bytes_received: u64_at(128),
        silent_seconds: last.map(|milliseconds| f64::from(milliseconds) / 1000.0),
    }
}

/// A `struct unix_diag_msg` and its attributes: the inode and the row, the peer's name still missing.
fn parse_unix(message: &[u8]) -> Option<(u64, Socket)> {
    let socket_type = match *message.get(1)? {
        1 => Some(SocketType::Stream),
        2 => Some(SocketType::Datagram),
        5 => Some(SocketType::Seqpacket),
        _ => None,
    };
    let inode = u64::from(u32::from_ne_bytes(bytes_at(message, 4)?));
    let mut local = None;
    let mut peer_inode = None;
    for (attribute, value) in attributes(message.get(16..)?) {
        match attribute {
            UNIX_DIAG_NAME => local = unix_name(value).map(Address::Unix),
            UNIX_DIAG_PEER => peer_inode = bytes_at(value, 0).map(|inode| u64::from(u32::from_ne_bytes(inode))),
            _ => {}
        }
    }
    let state = State::from_kernel(*message.get(2)?);
    let activity = Activity::default();
    Some((
        inode,
        Socket { kind: Kind::Unix, ipv6: false, socket_type, local, remote: None, peer_inode, state, activity },
    ))
}

/// A Unix socket's name: a path, or an abstract one, whose leading NUL is shown as `@` like everywhere.
pub(super) fn unix_name(bytes: &[u8]) -> Option<String> {
    let (mark, name) = match bytes.split_first()? {
        (0, name) => ("@", name),
        _ => ("", bytes.split(|byte| *byte == 0).next().unwrap_or_default()),
    };
    let name: String = String::from_utf8_lossy(name).chars().map(|c| if c.is_control() { '@' } else { c }).collect();
    Some(format!("{mark}{name}"))
}

/// The `struct nlattr`s of a message: type and value.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes_at(rest, 0)?));
        let kind = u16::from_ne_bytes(bytes_at(rest, 2)?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn inode(of: &impl AsFd) -> u64 {
        rustix::fs::fstat(of).expect("stat").st_ino
    }

    #[test]
    fn the_kernel_knows_both_ends_of_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connects");
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let wanted: HashSet<u64> = [inode(&listener), inode(&client), inode(&ours)].into();
        let table = SockDiag::open().expect("opens").read(&wanted).expect("reads");
        assert_eq!(table.len(), 3);
        let row = &table[&inode(&client)];
        assert_eq!(row.state, Some(State::Established));
        assert_eq!(row.remote, listener.local_addr().ok().map(Address::Inet));
        assert_eq!((row.activity.bytes_sent, row.activity.bytes_received), (Some(0), Some(0)));
        assert!(row.activity.silent_seconds.is_some_and(|silent| silent < 60.0));
        assert_eq!(table[&inode(&listener)].state, Some(State::Listen));
        assert_eq!(table[&inode(&ours)].peer_inode, Some(inode(&theirs)));
    }

    #[test]
    fn a_known_connection_is_read_alike_by_itself_and_from_a_dump() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("address");
        let both = TcpListener::bind("[::]:0").expect("listens");
        let mapped = TcpStream::connect(("127.0.0.1", both.local_addr().expect("address").port())).expect("connects");
        let (accepted, _) = both.accept().expect("accepts");
        let client = TcpStream::connect(address).expect("connects");
        let wanted: HashSet<u64> =
            [inode(&listener), inode(&both), inode(&client), inode(&mapped), inode(&accepted)].into();
        let mut diag = SockDiag::open().expect("opens");
        let steady = |mut table: SocketTable| {
            table.values_mut().for_each(|row| row.activity.silent_seconds = None);
            table
        };
        let dumped = steady(diag.read(&wanted).expect("reads"));
        // Makes one by one worth it, however few sockets this machine has.
        diag.rows = [1_000; TABLES.len()];
        assert_eq!(steady(diag.read(&wanted).expect("reads")), dumped);
        assert_eq!((dumped.len(), diag.rows), (5, [1_000; TABLES.len()]), "no dump was needed");
        drop((client, accepted));
        assert_eq!(diag.read(&wanted).expect("reads").len(), 3);
    }

    fn unconnected(family: AddressFamily, kind: NetSocketType) -> OwnedFd {
        socket_with(family, kind, SocketFlags::CLOEXEC, None).expect("a socket")
    }

    #[test]
    fn sockets_that_no_table_lists_are_looked_for_ever_more_seldom() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let fresh = unconnected(AddressFamily::INET, NetSocketType::STREAM);
        let netlink = unconnected(AddressFamily::NETLINK, NetSocketType::RAW);
        let wanted = [inode(&listener), inode(&fresh), inode(&netlink)].into();
        let mut diag = SockDiag::open().expect("opens");
        let mut dumps = Vec::new();
        for read in 0..40 {
            diag.rows = [1_000; TABLES.len()];
            assert_eq!(diag.read(&wanted).expect("reads").len(), 1);
            if diag.rows != [1_000; TABLES.len()] {
                dumps.push(read);
            }
        }
        assert_eq!(dumps, [0, 1, 3, 7, 15, 31]);
        diag.read(&[inode(&listener)].into()).expect("reads");
        assert!(diag.absent.is_empty(), "nobody wants them any more");
    }

    #[test]
    fn a_fresh_socket_is_found_once_it_is_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let fresh = unconnected(AddressFamily::INET, NetSocketType::STREAM);
        let wanted = [inode(&listener), inode(&fresh)].into();
        let mut diag = SockDiag::open().expect("opens");
        for _ in 0..40 {
            assert_eq!(diag.read(&wanted).expect("reads").len(), 1);
        }
        rustix::net::connect(&fresh, &listener.local_addr().expect("address")).expect("connects");
        let reads = (1..).find(|_| diag.read(&wanted).expect("reads").len() == 2);
        assert!(reads.is_some_and(|reads| reads <= RETRY_READS_MAX), "{reads:?}");
        assert!(diag.absent.is_empty());
    }

    #[test]
    fn a_message_that_is_cut_is_no_row() {
        assert_eq!(parse_inet(&[AF_INET, 1, 0, 0, 0, 80], Kind::Tcp), None);
        assert_eq!(parse_unix(&[AF_UNIX, 1]), None);
        assert_eq!(attributes(&[9, 0, 0, 0, 1]).count(), 0);
        assert_eq!(first_message(&[200, 0, 0, 0, 20, 0]), None);
    }
}
