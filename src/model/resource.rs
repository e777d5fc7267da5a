//! What a descriptor refers to.

use super::{Address, Detail};
use std::fmt;

/// The kind of a resource, under the name that JSON and `descriptors:KIND` use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is the kernel's own word for the thing")]
pub enum Kind {
    Tcp,
    Udp,
    Unix,
    Raw,
    Netlink,
    Packet,
    /// A socket of a family that is none of the above, or one that no socket table lists.
    Socket,
    Pipe,
    File,
    Directory,
    CharDevice,
    BlockDevice,
    Eventfd,
    Epoll,
    Inotify,
    Fanotify,
    Timerfd,
    Signalfd,
    Memfd,
    Pidfd,
    IoUring,
    Bpf,
    PerfEvent,
    Userfaultfd,
    /// Any other anonymous inode, or a kind that could not be told.
    Other,
}

impl Kind {
    const NAMES: [(Kind, &'static str); 25] = [
        (Kind::Tcp, "tcp"),
        (Kind::Udp, "udp"),
        (Kind::Unix, "unix"),
        (Kind::Raw, "raw"),
        (Kind::Netlink, "netlink"),
        (Kind::Packet, "packet"),
        (Kind::Socket, "socket"),
        (Kind::Pipe, "pipe"),
        (Kind::File, "file"),
        (Kind::Directory, "directory"),
        (Kind::CharDevice, "chardev"),
        (Kind::BlockDevice, "blockdev"),
        (Kind::Eventfd, "eventfd"),
        (Kind::Epoll, "epoll"),
        (Kind::Inotify, "inotify"),
        (Kind::Fanotify, "fanotify"),
        (Kind::Timerfd, "timerfd"),
        (Kind::Signalfd, "signalfd"),
        (Kind::Memfd, "memfd"),
        (Kind::Pidfd, "pidfd"),
        (Kind::IoUring, "io_uring"),
        (Kind::Bpf, "bpf"),
        (Kind::PerfEvent, "perf_event"),
        (Kind::Userfaultfd, "userfaultfd"),
        (Kind::Other, "other"),
    ];

    /// The kind's name.
    pub fn name(self) -> &'static str {
        Kind::NAMES.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, name)| name)
    }

    /// The kind that a recording calls `name`; [`Kind::Other`] for a name of a later version.
    pub fn parse(name: &str) -> Kind {
        Kind::NAMES.iter().find(|(_, known)| *known == name).map_or(Kind::Other, |(kind, _)| *kind)
    }

    /// True for the kinds that `lsof -i` counts; it leaves raw sockets out.
    pub fn is_internet(self) -> bool {
        matches!(self, Kind::Tcp | Kind::Udp)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

/// How a descriptor may be used, by lsof's letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `r`: read only.
    Read,
    /// `w`: write only.
    Write,
    /// `u`: both.
    Both,
}

impl Access {
    /// lsof's letter.
    pub fn letter(self) -> &'static str {
        match self {
            Access::Read => "r",
            Access::Write => "w",
            Access::Both => "u",
        }
    }

    /// Reads lsof's letter.
    pub fn parse(letter: &str) -> Option<Access> {
        match letter {
            "r" => Some(Access::Read),
            "w" => Some(Access::Write),
            "u" => Some(Access::Both),
            _ => None,
        }
    }
}

/// A socket's state, by the kernel's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the kernel's names, told apart in RFC 9293")]
pub enum State {
    Established,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
}

impl State {
    const NAMES: [(State, &'static str); 11] = [
        (State::Established, "ESTABLISHED"),
        (State::SynSent, "SYN_SENT"),
        (State::SynRecv, "SYN_RECV"),
        (State::FinWait1, "FIN_WAIT1"),
        (State::FinWait2, "FIN_WAIT2"),
        (State::TimeWait, "TIME_WAIT"),
        (State::Close, "CLOSE"),
        (State::CloseWait, "CLOSE_WAIT"),
        (State::LastAck, "LAST_ACK"),
        (State::Listen, "LISTEN"),
        (State::Closing, "CLOSING"),
    ];

    /// The kernel's number for it (`include/net/tcp_states.h`), 1 to 11; a request socket (12) is a `SYN_RECV`.
    pub fn from_kernel(number: u8) -> Option<State> {
        let number = if number == 12 { 3 } else { number };
        State::NAMES.get(usize::from(number).checked_sub(1)?).map(|(state, _)| *state)
    }

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        State::NAMES.iter().find(|(state, _)| *state == self).map_or("CLOSE", |(_, name)| name)
    }

    /// Reads the kernel's name.
    pub fn parse(name: &str) -> Option<State> {
        State::NAMES.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }
}

/// What a Unix socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of socket(2)")]
pub enum SocketType {
    Stream,
    Datagram,
    Seqpacket,
}

impl SocketType {
    /// lsof's word for it.
    pub fn name(self) -> &'static str {
        match self {
            SocketType::Stream => "STREAM",
            SocketType::Datagram => "DGRAM",
            SocketType::Seqpacket => "SEQPACKET",
        }
    }
}

/// The other end of a connected Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixPeer {
    /// The peer socket's inode.
    pub inode: u64,
    /// A process that holds it and its descriptor there, where `/proc` let us see one.
    pub owner: Option<(u32, i32)>,
}

/// Tells one resource from another for as long as it is open. Opaque: an inode alone does not (two eventfds and an
/// epoll share one), so what goes in depends on the kind; see `sample::descriptors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub u64, pub u64);

/// What a connection has carried, as far as the kernel says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity {
    /// Bytes sent and acknowledged.
    pub bytes_sent: Option<u64>,
    /// Bytes received.
    pub bytes_received: Option<u64>,
    /// Time since the last byte in either direction, in seconds.
    pub silent_seconds: Option<f64>,
}

/// Something open: a socket, a pipe's end, a file, an event descriptor.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Tells it from every other one.
    pub identity: Identity,
    /// What the file that tells of it calls it, the `conn_id` of a CSV; `None` of what was seen by ourselves.
    pub label: Option<Box<str>>,
    /// What it is.
    pub kind: Kind,
    /// True for an IPv6 socket, also where its addresses are v4-mapped.
    pub ipv6: bool,
    /// Stream or datagram, of a Unix socket.
    pub socket_type: Option<SocketType>,
    /// The inode behind it; not unique for anonymous ones.
    pub inode: Option<u64>,
    /// A file's path, a Unix socket's name.
    pub name: Option<String>,
    /// Our end.
    pub local: Option<Address>,
    /// The other end; `None` where there is no peer.
    pub remote: Option<Address>,
    /// The peer of a connected Unix socket.
    pub peer: Option<UnixPeer>,
    /// The state of a TCP or Unix socket.
    pub state: Option<State>,
    /// What it carried.
    pub activity: Activity,
    /// What else the kernel says; `None` where nothing was asked.
    pub detail: Option<Box<Detail>>,
}

impl Resource {
    /// A resource of which no more is known than its identity and kind.
    pub fn new(identity: Identity, kind: Kind) -> Self {
        Resource {
            identity,
            label: None,
            kind,
            ipv6: false,
            socket_type: None,
            inode: None,
            name: None,
            local: None,
            remote: None,
            peer: None,
            state: None,
            activity: Activity::default(),
            detail: None,
        }
    }

    /// True for what `lsof -i` counts: not a TCP socket that is only bound, which the kernel's tables don't list.
    pub fn is_internet(&self) -> bool {
        let only_bound = self.kind == Kind::Tcp && self.state == Some(State::Close);
        self.kind.is_internet() && self.local.is_some() && !only_bound
    }

    /// True where it has a peer: TCP past the listening, connected UDP, a connected Unix socket. What a file tells of by an id
    /// is one also where it doesn't say with whom.
    pub fn is_connection(&self) -> bool {
        match self.kind {
            Kind::Tcp | Kind::Udp | Kind::Unix if self.label.is_some() => true,
            Kind::Tcp | Kind::Udp => self.remote.is_some(),
            Kind::Unix => self.peer.is_some() || self.remote.is_some(),
            _ => false,
        }
    }
}
