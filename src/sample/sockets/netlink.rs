//! `sock_diag`: the kernel's socket tables over netlink, in one dump per family.
//!
//! Formats: sock_diag(7), `include/uapi/linux/{inet_diag,unix_diag,tcp}.h`. Everything is in the machine's byte order but
//! ports and addresses, which are in the network's.

use super::{Socket, SocketTable};
use crate::model::{Activity, Address, Kind, SocketType, State};
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

/// The internet tables in the order in which they are asked: what most targets hold comes first, and a later one is asked
/// only while inodes are still unknown.
const INET_TABLES: [(u8, u8, Kind); 6] = [
    (AF_INET, IPPROTO_TCP, Kind::Tcp),
    (AF_INET6, IPPROTO_TCP, Kind::Tcp),
    (AF_INET, IPPROTO_UDP, Kind::Udp),
    (AF_INET6, IPPROTO_UDP, Kind::Udp),
    (AF_INET, IPPROTO_RAW, Kind::Raw),
    (AF_INET6, IPPROTO_RAW, Kind::Raw),
];

/// The kernel hands out at most 32 KiB a read.
const BUFFER_BYTES: usize = 65_536;

/// An open `sock_diag` socket. It sees the network namespace it was opened in.
#[derive(Debug)]
pub(super) struct SockDiag {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl SockDiag {
    /// Opens it; needs no privilege.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, NetSocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
        Ok(SockDiag { socket, buffer: vec![0; BUFFER_BYTES] })
    }

    /// The rows of the wanted inodes. A family that the kernel was built without is passed over.
    pub(super) fn read(&mut self, wanted: &HashSet<u64>) -> io::Result<SocketTable> {
        let mut table = SocketTable::with_capacity(wanted.len());
        for (number, (family, protocol, kind)) in INET_TABLES.into_iter().enumerate() {
            // The two TCP tables come first, then Unix sockets: most targets hold nothing else.
            if number == 2 && table.len() < wanted.len() {
                self.read_unix(wanted, &mut table)?;
            }
            if table.len() >= wanted.len() {
                break;
            }
            let mut request = [0u8; 56];
            request[0] = family;
            request[1] = protocol;
            request[2] = if kind == Kind::Tcp { 1 << (INET_DIAG_INFO - 1) } else { 0 };
            request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
            self.dump(&request, |message| {
                if let Some(inode) = bytes_at(message, 68).map(u32::from_ne_bytes).map(u64::from)
                    && wanted.contains(&inode)
                    && let Some(socket) = parse_inet(message, kind)
                {
                    table.insert(inode, socket);
                }
            })?;
        }
        Ok(table)
    }

    fn read_unix(&mut self, wanted: &HashSet<u64>, table: &mut SocketTable) -> io::Result<()> {
        let mut request = [0u8; 24];
        request[0] = AF_UNIX;
        request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        request[12..16].copy_from_slice(&UNIX_SHOW.to_ne_bytes());
        // A peer's name stands in the peer's own row, wanted or not.
        let mut names: HashMap<u64, Address> = HashMap::new();
        let mut found = Vec::new();
        self.dump(&request, |message| {
            let Some((inode, socket)) = parse_unix(message) else { return };
            if let Some(name) = &socket.local {
                names.insert(inode, name.clone());
            }
            if wanted.contains(&inode) {
                found.push((inode, socket));
            }
        })?;
        for (inode, mut socket) in found {
            socket.remote = socket.peer_inode.and_then(|peer| names.get(&peer).cloned());
            table.insert(inode, socket);
        }
        Ok(())
    }

    /// Sends a request and hands every row's message to `take`.
    fn dump(&mut self, request: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut message = Vec::with_capacity(16 + request.len());
        message.extend((16 + request.len() as u32).to_ne_bytes());
        message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message.extend(DUMP.to_ne_bytes());
        message.extend([0u8; 8]);
        message.extend(request);
        send(&self.socket, &message, SendFlags::empty())?;
        loop {
            let (_, length) = recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = &self.buffer[..length.min(BUFFER_BYTES)];
            if rest.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel sent nothing"));
            }
            while let (Some(size), Some(kind)) =
                (bytes_at(rest, 0).map(u32::from_ne_bytes), bytes_at(rest, 4).map(u16::from_ne_bytes))
            {
                let size = (size as usize).clamp(16, rest.len());
                match kind {
                    NLMSG_DONE => return Ok(()),
                    // No such family in this kernel (ENOENT), or not asked for by number (EINVAL): no rows.
                    NLMSG_ERROR => {
                        let code = bytes_at(rest, 16).map_or(0, i32::from_ne_bytes);
                        return match -code {
                            0 | 2 | 22 => Ok(()),
                            code => Err(io::Error::from_raw_os_error(code)),
                        };
                    }
                    SOCK_DIAG_BY_FAMILY => take(&rest[16..size]),
                    _ => {}
                }
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            }
        }
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
    fn a_message_that_is_cut_is_no_row() {
        assert_eq!(parse_inet(&[AF_INET, 1, 0, 0, 0, 80], Kind::Tcp), None);
        assert_eq!(parse_unix(&[AF_UNIX, 1]), None);
        assert_eq!(attributes(&[9, 0, 0, 0, 1]).count(), 0);
    }
}
