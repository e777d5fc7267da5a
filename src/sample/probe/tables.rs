//! Which `sock_diag` tables the kernel has: each is a module of its own (`tcp_diag`, `udp_diag`, `raw_diag`, `unix_diag`).
//!
//! Formats: sock_diag(7). A dump of sockets in no state at all is empty, and so is cheap: only whether it is answered counts.

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};
use std::io;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const HEADER_BYTES: usize = 16;

/// Each table: its protocol's name, its address family and the protocol's number.
const TABLES: [(&str, u8, u8); 4] = [("tcp", 2, 6), ("udp", 2, 17), ("raw", 2, 255), ("unix", 1, 0)];

/// The protocols without a table. Fails where `sock_diag` can't be asked at all.
pub(super) fn missing() -> io::Result<Vec<&'static str>> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
    let mut missing = Vec::new();
    for (name, family, protocol) in TABLES {
        send(&socket, &request(family, protocol), SendFlags::empty())?;
        let mut answer = [0; 8192];
        let (read, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
        let kind = answer.get(4..6).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
        if read < HEADER_BYTES || kind == Some(NLMSG_ERROR) {
            missing.push(name);
        }
    }
    Ok(missing)
}

/// A `struct nlmsghdr` and a `struct inet_diag_req_v2` or `struct unix_diag_req` that wants no state.
fn request(family: u8, protocol: u8) -> Vec<u8> {
    let body = if family == 1 { 24 } else { 56 };
    let mut bytes = vec![0; HEADER_BYTES + body];
    bytes[..4].copy_from_slice(&((HEADER_BYTES + body) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    bytes[HEADER_BYTES] = family;
    bytes[HEADER_BYTES + 1] = protocol;
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_kernel_has_the_table_of_tcp() {
        assert!(!super::missing().expect("netlink answers").contains(&"tcp"));
    }
}
