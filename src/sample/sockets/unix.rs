//! Rows of the table of Unix sockets: `struct unix_diag_msg` and its attributes.
//!
//! Formats: sock_diag(7), `include/uapi/linux/unix_diag.h`. Everything is in the machine's byte order.

use super::Socket;
use super::netlink::{attributes, bytes_at};
use crate::model::{Activity, Address, Detail, Kind, SocketType, State};

pub(super) const AF_UNIX: u8 = 1;

const UNIX_DIAG_NAME: u16 = 0;
pub(super) const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_RQLEN: u16 = 4;
/// Linux 5.3 or later.
const UNIX_DIAG_UID: u16 = 7;

/// `UDIAG_SHOW_NAME | UDIAG_SHOW_PEER`.
const SHOW: u32 = 0x1 | 0x4;
/// `UDIAG_SHOW_RQLEN | UDIAG_SHOW_UID`. A kernel that knows one of them not leaves it out.
const SHOW_DETAIL: u32 = 0x10 | 0x40;

/// A `struct unix_diag_req` for all sockets.
pub(super) fn request(with_detail: bool) -> [u8; 24] {
    let show = if with_detail { SHOW | SHOW_DETAIL } else { SHOW };
    let mut request = [0u8; 24];
    request[0] = AF_UNIX;
    request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    request[12..16].copy_from_slice(&show.to_ne_bytes());
    request
}

/// A row's inode and the row, the peer's name still missing.
pub(super) fn parse(row: &[u8], with_detail: bool) -> Option<(u64, Socket)> {
    let socket_type = match *row.get(1)? {
        1 => Some(SocketType::Stream),
        2 => Some(SocketType::Datagram),
        5 => Some(SocketType::Seqpacket),
        _ => None,
    };
    let state = State::from_kernel(*row.get(2)?);
    let inode = u64::from(u32::from_ne_bytes(bytes_at(row, 4)?));
    let mut local = None;
    let mut peer_inode = None;
    let mut detail = Detail::default();
    for (attribute, value) in attributes(row.get(16..)?) {
        let u32_at = |at| bytes_at(value, at).map(u32::from_ne_bytes);
        match attribute {
            UNIX_DIAG_NAME => local = name(value).map(Address::Unix),
            UNIX_DIAG_PEER => peer_inode = u32_at(0).map(u64::from),
            UNIX_DIAG_RQLEN => {
                (detail.receive_queue, detail.send_queue) = (u32_at(0).map(u64::from), u32_at(4).map(u64::from));
            }
            UNIX_DIAG_UID => detail.uid = u32_at(0),
            _ => {}
        }
    }
    let socket = Socket {
        kind: Kind::Unix,
        ipv6: false,
        socket_type,
        local,
        remote: None,
        peer_inode,
        state,
        activity: Activity::default(),
        detail: with_detail.then(|| Box::new(detail)),
    };
    Some((inode, socket))
}

/// A Unix socket's name: a path, or an abstract one, whose leading NUL is shown as `@` like everywhere.
pub(super) fn name(bytes: &[u8]) -> Option<String> {
    let (mark, name) = match bytes.split_first()? {
        (0, name) => ("@", name),
        _ => ("", bytes.split(|byte| *byte == 0).next().unwrap_or_default()),
    };
    let name: String = String::from_utf8_lossy(name).chars().map(|c| if c.is_control() { '@' } else { c }).collect();
    Some(format!("{mark}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_cut_is_none() {
        assert_eq!(parse(&[AF_UNIX, 1], false), None);
        assert_eq!(parse(&[AF_UNIX, 1, 1, 0, 7, 0, 0, 0, 0, 0], true), None);
    }

    #[test]
    fn a_name_is_a_path_or_abstract() {
        assert_eq!(name(b"/run/a b.sock\0").as_deref(), Some("/run/a b.sock"));
        assert_eq!(name(b"\0bus\n1").as_deref(), Some("@bus@1"));
        assert_eq!(name(b""), None);
    }
}
