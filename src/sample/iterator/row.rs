//! One descriptor as the kernel side of the iterator writes it (`struct row` in `bpf/files.bpf.c`).
//!
//! A row holds nothing that moves without telling anything, so two rows of one descriptor are equal, byte for byte, where
//! there is no news. Nothing is parsed before it is asked for.

use crate::bpf::bytes::{at, device_at, u16_at, u32_at, u64_at};
use crate::model::{Access, Address, SocketType, State};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The size of `struct row`.
pub(in crate::sample) const ROW_BYTES: usize = 104;

/// The descriptor's number in the last row, which stands for none.
const END: u32 = u32::MAX;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
/// `HAS_PEER` and `DELETED` in `bpf/files.bpf.c`.
const HAS_PEER: u16 = 1;
const DELETED: u16 = 2;

/// A descriptor and what is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sample) struct Row<'a>(&'a [u8; ROW_BYTES]);

/// What sort of file a descriptor leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sample) enum FileKind {
    /// A file system's own.
    Other,
    /// A socket.
    Socket,
    /// A regular file; a memfd too.
    Regular,
    /// A directory.
    Directory,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A pipe, with a name or without.
    Fifo,
    /// An anonymous inode: eventfd, epoll, inotify and the like.
    Anonymous,
}

impl FileKind {
    /// By its number in `bpf/file.h`.
    pub(super) fn from_kernel(number: u8) -> Self {
        match number {
            1 => FileKind::Socket,
            2 => FileKind::Regular,
            3 => FileKind::Directory,
            4 => FileKind::Character,
            5 => FileKind::Block,
            6 => FileKind::Fifo,
            7 => FileKind::Anonymous,
            _ => FileKind::Other,
        }
    }
}

/// How long ago something was: the kernel's clock as it stood when the rows had been read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::sample) struct Clock {
    /// `jiffies`, its lower half.
    pub now: u32,
    /// How many of them make a second.
    pub ticks_per_second: f64,
}

impl<'a> Row<'a> {
    /// The row in these bytes, where there are enough of them.
    pub(in crate::sample) fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.first_chunk().map(Row)
    }

    /// The whole row.
    #[cfg(test)]
    pub(in crate::sample) fn bytes(self) -> &'a [u8; ROW_BYTES] {
        self.0
    }

    /// The descriptor's number.
    pub(in crate::sample) fn fd(self) -> i32 {
        self.u32_at(24).cast_signed()
    }

    /// The kernel's address of the open file: the same for descriptors that `dup`, `fork` or a Unix socket have made of
    /// one another, and for nothing else that is open now. It may be used again after a close.
    pub(in crate::sample) fn file(self) -> u64 {
        self.u64_at(0)
    }

    /// The kernel's address of what the file leads to: of a socket its `struct sock`, else `private_data`, which is 0 for most
    /// files with a name.
    pub(in crate::sample) fn private_data(self) -> u64 {
        self.u64_at(8)
    }

    /// The inode's number.
    pub(in crate::sample) fn inode(self) -> u64 {
        self.u64_at(16)
    }

    /// The device of the inode: major and minor number. (0, 0) of a socket.
    pub(in crate::sample) fn device(self) -> (u32, u32) {
        device_at(self.0, 28)
    }

    /// What it leads to.
    pub(in crate::sample) fn kind(self) -> FileKind {
        FileKind::from_kernel(self.0[32])
    }

    /// How it may be used; `None` of one opened by `O_PATH`.
    pub(in crate::sample) fn access(self) -> Option<Access> {
        access(self.0[33])
    }

    /// The offset of a regular file or a block device.
    pub(in crate::sample) fn offset(self) -> Option<u64> {
        matches!(self.kind(), FileKind::Regular | FileKind::Block).then(|| self.u64_at(56))
    }

    /// Stands for the file's path: another where it was renamed, moved or deleted. Empty of a socket.
    pub(in crate::sample) fn path(self) -> &'a [u8] {
        if self.kind() == FileKind::Socket { &[] } else { &self.0[64..88] }
    }

    /// True of a file whose name has been taken away.
    pub(in crate::sample) fn is_deleted(self) -> bool {
        self.kind() != FileKind::Socket && self.u16_at(46) & DELETED != 0
    }

    /// The address family of a socket, `AF_INET` and so on; 0 of anything else.
    pub(in crate::sample) fn family(self) -> u16 {
        self.u16_at(34)
    }

    /// The protocol of a socket, `IPPROTO_TCP` and so on.
    pub(in crate::sample) fn protocol(self) -> u16 {
        self.u16_at(38)
    }

    /// The type of a socket; `None` of a raw one and the like.
    pub(in crate::sample) fn socket_type(self) -> Option<SocketType> {
        match self.u16_at(36) {
            1 => Some(SocketType::Stream),
            2 => Some(SocketType::Datagram),
            5 => Some(SocketType::Seqpacket),
            _ => None,
        }
    }

    /// True of a TCP socket.
    pub(in crate::sample) fn is_tcp(self) -> bool {
        self.is_inet() && self.protocol() == IPPROTO_TCP
    }

    /// True of a socket of IPv4 or IPv6.
    pub(in crate::sample) fn is_inet(self) -> bool {
        matches!(self.family(), AF_INET | AF_INET6)
    }

    /// True of an IPv6 socket, also where its addresses are v4-mapped.
    pub(in crate::sample) fn is_ipv6(self) -> bool {
        self.family() == AF_INET6
    }

    /// True of a Unix socket.
    pub(in crate::sample) fn is_unix(self) -> bool {
        self.family() == AF_UNIX
    }

    /// The state of a socket, by TCP's names, which the kernel uses for all families.
    pub(in crate::sample) fn state(self) -> Option<State> {
        State::from_kernel(self.0[40])
    }

    /// The directions that have been shut down: 1 receiving, 2 sending.
    #[cfg(test)]
    pub(in crate::sample) fn shutdown(self) -> u8 {
        self.0[41]
    }

    /// Our end of an internet socket; `None` of one that is not bound.
    pub(in crate::sample) fn local(self) -> Option<Address> {
        self.address(56, self.u16_at(42))
    }

    /// True of an internet socket that has a port: a connection that the peer has reset has given its own back.
    pub(in crate::sample) fn has_port(self) -> bool {
        self.is_inet() && self.u16_at(42) != 0
    }

    /// The other end of an internet socket; `None` of one that is not connected.
    pub(in crate::sample) fn remote(self) -> Option<Address> {
        self.address(72, self.u16_at(44))
    }

    /// Bytes sent, those sent again not counted twice, of a TCP connection that has been established.
    pub(in crate::sample) fn bytes_sent(self) -> Option<u64> {
        self.is_tcp_connection().then(|| self.u64_at(88))
    }

    /// Bytes received, of a TCP connection that has been established.
    pub(in crate::sample) fn bytes_received(self) -> Option<u64> {
        self.is_tcp_connection().then(|| self.u64_at(96))
    }

    /// Time since the last byte in either direction, in seconds, of a TCP connection that has been established.
    pub(in crate::sample) fn silent_seconds(self, clock: Clock) -> Option<f64> {
        let last = self.u32_at(48);
        // The clock was read last, so this is never negative; it wraps as the kernel's own does, after half a year.
        (last != 0).then(|| f64::from(clock.now.wrapping_sub(last)) / clock.ticks_per_second)
    }

    /// The inode of a Unix socket's peer; 0 of one that has been closed; `None` without a peer.
    pub(in crate::sample) fn peer_inode(self) -> Option<u64> {
        (self.is_unix() && self.u16_at(46) & HAS_PEER != 0).then(|| self.u64_at(56))
    }

    /// The kernel's clock, where this is the last row.
    pub(super) fn end(self) -> Option<u32> {
        (self.u32_at(24) == END).then(|| self.u32_at(52))
    }

    fn is_tcp_connection(self) -> bool {
        let is_none =
            matches!(self.state(), None | Some(State::Listen | State::Close | State::SynSent | State::SynRecv));
        self.is_tcp() && !is_none
    }

    fn address(self, place: usize, port: u16) -> Option<Address> {
        let ip: IpAddr = match self.family() {
            AF_INET => Ipv4Addr::from(at::<4>(self.0, place)).into(),
            AF_INET6 => Ipv6Addr::from(at::<16>(self.0, place)).into(),
            _ => return None,
        };
        (port != 0 || !ip.is_unspecified()).then(|| Address::inet(ip, port))
    }

    fn u16_at(self, place: usize) -> u16 {
        u16_at(self.0, place)
    }

    fn u32_at(self, place: usize) -> u32 {
        u32_at(self.0, place)
    }

    fn u64_at(self, place: usize) -> u64 {
        u64_at(self.0, place)
    }
}

/// An access mode as the kernel side writes it.
pub(super) fn access(bits: u8) -> Option<Access> {
    match bits {
        1 => Some(Access::Read),
        2 => Some(Access::Write),
        3 => Some(Access::Both),
        _ => None,
    }
}
