//! Socket tables as text: `/proc/PID/net/{tcp,tcp6,udp,udp6,raw,raw6,unix}`, of the network namespace that the process is in.
//! They know no bytes, no silence and no Unix peer.

use super::netlink::unix_name;
use super::{Socket, SocketTable};
use crate::model::{Activity, Address, Kind, SocketType, State};
use crate::sample::procfs::ProcFs;
use std::collections::HashSet;
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
pub(super) fn read(proc: &ProcFs, pid: u32, wanted: &HashSet<u64>) -> SocketTable {
    let mut table = SocketTable::new();
    for (name, kind, ipv6) in TABLES {
        let text = proc.text(pid, name).unwrap_or_default();
        for line in text.lines().skip(1) {
            if let Some((inode, socket)) = parse_inet(line, kind, ipv6).filter(|(inode, _)| wanted.contains(inode)) {
                table.insert(inode, socket);
            }
        }
    }
    let text = proc.text(pid, "net/unix").unwrap_or_default();
    table.extend(text.lines().skip(1).filter_map(parse_unix).filter(|(inode, _)| wanted.contains(inode)));
    table
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...`
fn parse_inet(line: &str, kind: Kind, ipv6: bool) -> Option<(u64, Socket)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let inode = fields.get(9)?.parse().ok()?;
    let state = State::from_kernel(u8::from_str_radix(fields.get(3)?, 16).ok()?);
    let (local_ip, local_port) = parse_address(fields.get(1)?, ipv6)?;
    let (remote_ip, remote_port) = parse_address(fields.get(2)?, ipv6)?;
    let has_peer = remote_port != 0 || (kind == Kind::Raw && !remote_ip.is_unspecified());
    let socket = Socket {
        kind,
        ipv6,
        socket_type: None,
        local: Some(Address::inet(local_ip, local_port)),
        remote: has_peer.then(|| Address::inet(remote_ip, remote_port)),
        peer_inode: None,
        state: state.filter(|_| kind == Kind::Tcp),
        activity: Activity::default(),
    };
    Some((inode, socket))
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
    let local = (!path.is_empty()).then(|| unix_name(path.as_bytes())).flatten().map(Address::Unix);
    let socket = Socket {
        kind: Kind::Unix,
        ipv6: false,
        socket_type,
        local,
        remote: None,
        peer_inode: None,
        state,
        activity: Activity::default(),
    };
    Some((inode, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_each_table_is_understood() {
        let line = "   0: 0100007F:1538 0200007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 20 4 30 10 -1";
        let (inode, socket) = parse_inet(line, Kind::Tcp, false).expect("parses");
        assert_eq!((inode, socket.state), (12345, Some(State::Established)));
        assert_eq!(socket.local.map(|it| it.to_string()).as_deref(), Some("127.0.0.1:5432"));
        assert_eq!(socket.remote.map(|it| it.to_string()).as_deref(), Some("127.0.0.2:40000"));
        let line =
            "0: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 7 1";
        let (_, socket) = parse_inet(line, Kind::Tcp, true).expect("parses");
        assert_eq!((socket.local.map(|it| it.to_string()).as_deref(), socket.remote), (Some("127.0.0.1:80"), None));
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 2345 /run/a b.sock";
        let (inode, socket) = parse_unix(line).expect("parses");
        assert_eq!((inode, socket.state), (2345, Some(State::Listen)));
        assert_eq!(socket.local, Some(Address::Unix("/run/a b.sock".into())));
        assert_eq!(parse_inet("   0: 0100007F:1538 0200", Kind::Tcp, false), None);
    }
}
