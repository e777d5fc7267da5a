//! Rows of the internet tables: `struct inet_diag_msg` and what follows it.
//!
//! Formats: sock_diag(7), `include/uapi/linux/{inet_diag,tcp}.h`. Ports and addresses are in the network's byte order,
//! all else in the machine's.

use super::Socket;
use super::cgroup_id::CgroupPaths;
use super::netlink::{attributes, bytes_at};
use crate::model::{Activity, Address, Detail, Kind, State};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

pub(super) const INET_DIAG_INFO: u16 = 2;
/// Linux 5.9 or later.
const INET_DIAG_CGROUP_ID: u16 = 21;
/// What runs above TCP, nested: its name is [`INET_ULP_INFO_NAME`].
const INET_DIAG_ULP_INFO: u16 = 19;
const INET_ULP_INFO_NAME: u16 = 1;

/// All states but those without a file, and so without an inode: TIME_WAIT (6) and requests not yet accepted (12).
const STATES: u32 = !(1 << 6 | 1 << 12);

/// Congestion control, by the numbers of `enum tcp_ca_state`.
pub(in crate::sample) const CONGESTION_STATES: [&str; 5] = ["open", "disorder", "cwr", "recovery", "loss"];

/// A `struct inet_diag_sockid`: ports, addresses, interface and a cookie that no other socket ever has.
pub(super) type SocketId = [u8; 48];

/// A port that a dump is limited to; the other end may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Port {
    Local(u16),
    Remote(u16),
}

/// Local and remote port of a socket.
pub(super) fn ports(id: &SocketId) -> [Port; 2] {
    let port = |at| bytes_at(id, at).map_or(0, u16::from_be_bytes);
    [Port::Local(port(0)), Port::Remote(port(2))]
}

/// The id in a request for all sockets with a port. Of port 0 it is the one for all there are: the kernel takes it for
/// none.
pub(super) fn with_port(port: Port) -> SocketId {
    let mut id = [0; 48];
    match port {
        Port::Local(port) => id[..2].copy_from_slice(&port.to_be_bytes()),
        Port::Remote(port) => id[2..4].copy_from_slice(&port.to_be_bytes()),
    }
    id
}

/// A `struct inet_diag_req_v2`: for one socket, for those with a port, or for all where `id` is zeros.
pub(super) fn request(family: u8, protocol: u8, id: &SocketId) -> [u8; 56] {
    let mut request = [0u8; 56];
    request[0] = family;
    request[1] = protocol;
    request[2] = 1 << (INET_DIAG_INFO - 1);
    request[4..8].copy_from_slice(&STATES.to_ne_bytes());
    request[8..].copy_from_slice(id);
    request
}

/// The inode of a row; 0 of a socket that no file refers to.
pub(super) fn inode(row: &[u8]) -> Option<u64> {
    bytes_at(row, 68).map(u32::from_ne_bytes).map(u64::from)
}

/// The user of a row.
pub(super) fn uid(row: &[u8]) -> Option<u32> {
    bytes_at(row, 64).map(u32::from_ne_bytes)
}

/// What the row's socket is asked for by.
pub(super) fn id(row: &[u8]) -> Option<SocketId> {
    bytes_at(row, 4)
}

/// The cgroup of a row; `None` before Linux 5.9.
pub(super) fn cgroup_id(row: &[u8]) -> Option<u64> {
    let (_, value) = attributes(row.get(72..)?).find(|(attribute, _)| *attribute == INET_DIAG_CGROUP_ID)?;
    bytes_at(value, 0).map(u64::from_ne_bytes)
}

/// A row; with its detail where the paths of cgroups are given.
pub(super) fn parse(row: &[u8], kind: Kind, cgroups: Option<&mut CgroupPaths>) -> Option<Socket> {
    let ipv6 = *row.first()? == AF_INET6;
    let state = State::from_kernel(*row.get(1)?);
    let port = |at| bytes_at(row, at).map(u16::from_be_bytes);
    let address = |at: usize| -> Option<IpAddr> {
        Some(if ipv6 {
            Ipv6Addr::from(bytes_at::<16>(row, at)?).into()
        } else {
            Ipv4Addr::from(bytes_at::<4>(row, at)?).into()
        })
    };
    let local = Address::inet(address(8)?, port(4)?);
    let (remote_ip, remote_port) = (address(24)?, port(6)?);
    // Only a TCP socket's is a `struct tcp_info`, and a listener's holds other things.
    let has_info = kind == Kind::Tcp && !matches!(state, None | Some(State::Listen));
    // Nothing was sent or received yet: the times are those of the machine's start.
    let is_begun = !matches!(state, Some(State::SynSent | State::SynRecv));
    let (mut info, mut is_subflow) = (None, false);
    for (attribute, value) in attributes(row.get(72..)?) {
        match attribute {
            INET_DIAG_INFO if has_info => info = Some(value),
            INET_DIAG_ULP_INFO => is_subflow = attributes(value).any(|it| it == (INET_ULP_INFO_NAME, b"mptcp\0")),
            _ => {}
        }
    }
    // A subflow has the inode of its connection, but carries only a part of it.
    let info = info.filter(|_| !is_subflow);
    let has_peer = remote_port != 0 || (kind == Kind::Raw && !remote_ip.is_unspecified());
    Some(Socket {
        kind,
        ipv6,
        socket_type: None,
        local: Some(local),
        remote: has_peer.then(|| Address::inet(remote_ip, remote_port)),
        peer_inode: None,
        state: state.filter(|_| kind == Kind::Tcp),
        activity: info.filter(|_| is_begun).map(activity).unwrap_or_default(),
        protocol: is_subflow.then_some("MPTCP"),
        detail: cgroups.map(|cgroups| Box::new(detail(row, info, cgroups))),
    })
}

/// The parts of `struct tcp_info` that say what a connection carried. The kernel's struct only ever grows: what is past
/// its end is not known here.
pub(super) fn activity(info: &[u8]) -> Activity {
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

/// What tells one socket from another beyond addresses and bytes.
fn detail(row: &[u8], info: Option<&[u8]>, cgroups: &mut CgroupPaths) -> Detail {
    let u32_at = |at| bytes_at(row, at).map(u32::from_ne_bytes);
    let congestion = info.and_then(|info| CONGESTION_STATES.get(usize::from(*info.get(1)?)));
    Detail {
        uid: uid(row),
        cgroup: cgroup_id(row).and_then(|id| cgroups.path(id)).map(|path| path.to_string()),
        receive_queue: u32_at(56).map(u64::from),
        send_queue: u32_at(60).map(u64::from),
        retransmits: info.and_then(|info| bytes_at(info, 100)).map(|count| u64::from(u32::from_ne_bytes(count))),
        congestion_state: congestion.map(|name| (*name).to_owned()),
        ..Detail::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_cut_anywhere_is_none_or_less() {
        let mut row = vec![0u8; 72];
        (row[0], row[1]) = (AF_INET, 1);
        let info = [[0, 0], [9, 0]].concat();
        row.extend(8u16.to_ne_bytes().into_iter().chain(INET_DIAG_INFO.to_ne_bytes()).chain(info));
        for cut in 0..row.len() {
            assert_eq!(parse(&row[..cut], Kind::Tcp, None).is_some(), cut >= 72, "{cut}");
        }
        let whole = parse(&row, Kind::Tcp, None).expect("is a row");
        assert_eq!(whole.activity, Activity::default(), "nothing is made up for what an older kernel doesn't tell");
    }

    #[test]
    fn a_subflow_is_not_its_connection() {
        let row = |ulp: &[u8]| {
            let mut row = vec![0u8; 72];
            (row[0], row[1]) = (AF_INET, 1);
            row.extend(220u16.to_ne_bytes().into_iter().chain(INET_DIAG_INFO.to_ne_bytes()).chain([0; 216]));
            let nested = [(ulp.len() as u16 + 4).to_ne_bytes(), INET_ULP_INFO_NAME.to_ne_bytes()].concat();
            let length = (nested.len() + ulp.len()).next_multiple_of(4) as u16 + 4;
            row.extend(length.to_ne_bytes().into_iter().chain(INET_DIAG_ULP_INFO.to_ne_bytes()).chain(nested));
            row.extend(ulp.iter().chain(&[0; 3]));
            parse(&row, Kind::Tcp, None).expect("is a row")
        };
        let (subflow, tls) = (row(b"mptcp\0"), row(b"tls\0"));
        assert_eq!((subflow.protocol, subflow.activity.bytes_sent), (Some("MPTCP"), None));
        assert_eq!((tls.protocol, tls.activity.bytes_sent), (None, Some(0)));
    }
}
