//! What is asked once of a socket that is new (`struct detail` in `bpf/files.bpf.c`).

use crate::bpf::bytes::{u32_at, u64_at};

/// The size of `struct detail`.
pub(super) const DETAIL_BYTES: usize = 288;

/// `HAS_QUEUES` and `HAS_TCP` in `bpf/files.bpf.c`.
const HAS_QUEUES: u8 = 1;
const HAS_TCP: u8 = 2;
const PROTOCOL_AT: usize = 40;
const NAME_AT: usize = 72;
const PEER_NAME_AT: usize = 180;

/// A socket beyond its row.
#[derive(Clone, Copy, Debug)]
pub(in crate::sample) struct SocketDetail<'a>(&'a [u8; DETAIL_BYTES]);

impl<'a> SocketDetail<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.first_chunk().map(SocketDetail)
    }

    /// The descriptor's number.
    pub(in crate::sample) fn fd(self) -> i32 {
        u32_at(self.0, 16).cast_signed()
    }

    /// The kernel's address of the open file, to tell whether the descriptor is still what its row said.
    pub(in crate::sample) fn file(self) -> u64 {
        u64_at(self.0, 0)
    }

    /// The user who made the socket.
    pub(in crate::sample) fn uid(self) -> u32 {
        u32_at(self.0, 20)
    }

    /// The number of the cgroup that the socket was made in: the inode of its folder.
    pub(in crate::sample) fn cgroup(self) -> Option<u64> {
        Some(u64_at(self.0, 8)).filter(|id| *id != 0)
    }

    /// The protocol by the kernel's name: `TCP`, `UDPv6`, `UNIX-STREAM`, `NETLINK`.
    pub(in crate::sample) fn protocol(self) -> String {
        let name = self.0[PROTOCOL_AT..NAME_AT].split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// Bytes that came and have not been read, of TCP and UDP; of a listener the connections that wait.
    pub(in crate::sample) fn receive_queue(self) -> Option<u64> {
        (self.0[37] & HAS_QUEUES != 0).then(|| u32_at(self.0, 28).into())
    }

    /// Bytes that were written and have not been acknowledged (TCP) or not been sent (UDP); of a listener the connections
    /// that may wait.
    pub(in crate::sample) fn send_queue(self) -> Option<u64> {
        (self.0[37] & HAS_QUEUES != 0).then(|| u32_at(self.0, 32).into())
    }

    /// Segments that were sent again, of a TCP connection.
    pub(in crate::sample) fn retransmits(self) -> Option<u64> {
        self.has_tcp().then(|| u32_at(self.0, 24).into())
    }

    /// The state of TCP's congestion control by the kernel's number: open, disorder, cwr, recovery, loss.
    pub(in crate::sample) fn congestion_state(self) -> Option<u8> {
        self.has_tcp().then_some(self.0[36])
    }

    /// The name of a Unix socket as the kernel has it: an abstract one begins with NUL, one of a path may end with it.
    pub(in crate::sample) fn name(self) -> Option<&'a [u8]> {
        self.unix_name(NAME_AT, self.0[38])
    }

    /// The name of a Unix socket's peer, likewise.
    pub(in crate::sample) fn peer_name(self) -> Option<&'a [u8]> {
        self.unix_name(PEER_NAME_AT, self.0[39])
    }

    fn has_tcp(self) -> bool {
        self.0[37] & HAS_TCP != 0
    }

    fn unix_name(self, at: usize, length: u8) -> Option<&'a [u8]> {
        self.0.get(at..at + usize::from(length)).filter(|name| !name.is_empty())
    }
}
