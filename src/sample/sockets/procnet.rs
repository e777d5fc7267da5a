//! Socket tables as text: `/proc/PID/net/{tcp,tcp6,udp,udp6,raw,raw6,unix}`, of the network namespace that the process is in.
//! They know no bytes, no silence, no retransmits since the begin, no cgroup and no Unix peer, and of a Unix socket no
//! user and no queues.

use super::inodes::InodeSet;
use super::{Socket, SocketTable, unix};
use crate::model::{Activity, Address, Detail, Kind, SocketType, State};
use crate::sample::procfs::ProcFs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TABLES: [(&str, Kind, bool); 6] = [
    ("net/tcp", Kind::Tcp, false),
    ("net/tcp6", Kind::Tcp, true),
    ("net/udp", Kind::Udp, false),
    ("net/udp6", Kind::Udp, true),
    ("net/raw", Kind::Raw, false),
    ("net/raw6", Kind::Raw, true),
];

/// The rows of the wanted inodes. A table that can't be read, or a line cut short, gives no rows.
pub(super) fn read(proc: &ProcFs, pid: u32, wanted: &InodeSet, with_detail: bool) -> SocketTable {
    let mut table = read_inet(proc, pid, |inode, _| wanted.contains(&inode), with_detail);
    let text = proc.text(pid, "net/unix").unwrap_or_default();
    table.extend(text.lines().skip(1).filter_map(parse_unix).filter(|(inode, _)| wanted.contains(inode)));
    table
}

/// The internet sockets of a user, of the network namespace that the process is in.
pub(super) fn read_user(proc: &ProcFs, pid: u32, uid: u32) -> SocketTable {
    read_inet(proc, pid, |inode, owner| inode != 0 && owner == Some(uid), true)
}

/// The internet sockets of which that is true, told by inode and user.
fn read_inet(proc: &ProcFs, pid: u32, wanted: impl Fn(u64, Option<u32>) -> bool, with_detail: bool) -> SocketTable {
    let mut table = SocketTable::default();
    for (name, kind, ipv6) in TABLES {
        let text = proc.text(pid, name).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let Some(inode) = fields.get(9).and_then(|inode| inode.parse().ok()) else { continue };
            if wanted(inode, uid(&fields))
                && let Some(socket) = parse_inet(&fields, kind, ipv6, with_detail)
            {
                table.insert(inode, socket);
            }
        }
    }
    table
}

fn uid(fields: &[&str]) -> Option<u32> {
    fields.get(7)?.parse().ok()
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...`
fn parse_inet(fields: &[&str], kind: Kind, ipv6: bool, with_detail: bool) -> Option<Socket> {
    let state = State::from_kernel(u8::from_str_radix(fields.get(3)?, 16).ok()?);
    let (local_ip, local_port) = parse_address(fields.get(1)?, ipv6)?;
    let (remote_ip, remote_port) = parse_address(fields.get(2)?, ipv6)?;
    let has_peer = remote_port != 0 || (kind == Kind::Raw && !remote_ip.is_unspecified());
    Some(Socket {
        kind,
        ipv6,
        socket_type: None,
        local: Some(Address::inet(local_ip, local_port)),
        remote: has_peer.then(|| Address::inet(remote_ip, remote_port)),
        peer_inode: None,
        state: state.filter(|_| kind == Kind::Tcp),
        activity: Activity::default(),
        detail: with_detail.then(|| {
            let queues = fields.get(4).and_then(|queues| queues.split_once(':'));
            let bytes = |text| u64::from_str_radix(text, 16).ok();
            // A listener has no limit in this file: the 0 there is none.
            let send_queue = queues.and_then(|(sent, _)| bytes(sent)).filter(|_| state != Some(State::Listen));
            let receive_queue = queues.and_then(|(_, received)| bytes(received));
            Box::new(Detail { uid: uid(fields), send_queue, receive_queue, ..Detail::default() })
        }),
    })
}

/// `0100007F:1538`: each group of four bytes as a number in the machine's order, the port in hexadecimal.
fn parse_address(text: &str, ipv6: bool) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let group = |number: usize| -> Option<[u8; 4]> {
        Some(u32::from_str_radix(ip.get(number * 8..number * 8 + 8)?, 16).ok()?.to_ne_bytes())
    };
    let ip = if ipv6 {
        let mut bytes = [0u8; 16];
        for number in 0..4 {
            bytes[number * 4..number * 4 + 4].copy_from_slice(&group(number)?);
        }
        Ipv6Addr::from(bytes).into()
    } else {
        Ipv4Addr::from(group(0)?).into()
    };
    Some((ip, port))
}

/// `Num: RefCount Protocol Flags Type St Inode Path`; flag 0x10000 listens, state 3 is connected.
fn parse_unix(line: &str) -> Option<(u64, Socket)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let inode = fields.get(6)?.parse().ok()?;
    let listens = u32::from_str_radix(fields.get(3)?, 16).ok()? & 0x1_0000 != 0;
    let socket_type = match *fields.get(4)? {
        "0001" => Some(SocketType::Stream),
        "0002" => Some(SocketType::Datagram),
        "0005" => Some(SocketType::Seqpacket),
        _ => None,
    };
    let state = match *fields.get(5)? {
        _ if listens => Some(State::Listen),
        "03" => Some(State::Established),
        "01" => Some(State::Close),
        _ => None,
    };
    // A path may hold spaces: it is all that follows the inode.
    let path =
        (0..7).try_fold(line.trim_start(), |rest, _| Some(rest.split_once(' ')?.1.trim_start())).unwrap_or_default();
    let local = (!path.is_empty()).then(|| unix::name(path.as_bytes())).flatten().map(Address::Unix);
    let socket = Socket {
        kind: Kind::Unix,
        ipv6: false,
        socket_type,
        local,
        remote: None,
        peer_inode: None,
        state,
        activity: Activity::default(),
        detail: None,
    };
    Some((inode, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(line: &str, kind: Kind, ipv6: bool) -> Option<Socket> {
        parse_inet(&line.split_ascii_whitespace().collect::<Vec<_>>(), kind, ipv6, true)
    }

    #[test]
    fn a_line_of_each_table_is_understood() {
        let line = "   0: 0100007F:1538 0200007F:9C40 01 0000000A:00000010 00:00000000 00000000  1000        0 12345 1 0 20 4 30 10 -1";
        let socket = inet(line, Kind::Tcp, false).expect("parses");
        assert_eq!(socket.state, Some(State::Established));
        assert_eq!(socket.local.map(|it| it.to_string()).as_deref(), Some("127.0.0.1:5432"));
        assert_eq!(socket.remote.map(|it| it.to_string()).as_deref(), Some("127.0.0.2:40000"));
        let expected = Detail { uid: Some(1000), send_queue: Some(10), receive_queue: Some(16), ..Detail::default() };
        assert_eq!(socket.detail.as_deref(), Some(&expected));
        let line =
            "0: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A 0:3 00:0 0 0 0 7 1";
        let socket = inet(line, Kind::Tcp, true).expect("parses");
        assert_eq!((socket.local.map(|it| it.to_string()).as_deref(), socket.remote), (Some("127.0.0.1:80"), None));
        let queues = socket.detail.map(|detail| (detail.send_queue, detail.receive_queue));
        assert_eq!(queues, Some((None, Some(3))), "the limit of a listener is not in this file");
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 2345 /run/a b.sock";
        let (inode, socket) = parse_unix(line).expect("parses");
        assert_eq!((inode, socket.state), (2345, Some(State::Listen)));
        assert_eq!(socket.local, Some(Address::Unix("/run/a b.sock".into())));
        assert_eq!(inet("   0: 0100007F:1538 0200", Kind::Tcp, false), None);
    }
}
