//! What the kernel's side keeps and hands on, byte for byte as `bpf/ledger.h` and `bpf/ledger.bpf.c` lay it out.

use super::raw::{RawStack, Registers};
use crate::bpf::bytes::{at, u16_at, u32_at, u64_at};
use crate::model::{Address, Kind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `struct opening`, `struct use`, `struct prepared`, `struct thread`.
pub(super) const OPENING_BYTES: usize = PATH_AT + PATH_BYTES;
pub(super) const USE_BYTES: usize = MESSAGES_AT + MESSAGES * MESSAGE_BYTES;
pub(super) const PREPARED_BYTES: usize = 16 + PAYLOAD_BYTES;
pub(super) const THREAD_BYTES: usize = 96;
/// How many writes that prepare statements are kept of a socket.
pub(super) const PREPARED_MAX: u32 = 64;

const MESSAGES: usize = 4;
const MESSAGES_AT: usize = 56;
const MESSAGE_BYTES: usize = 16 + PAYLOAD_BYTES;
const PAYLOAD_BYTES: usize = 512;
const TOLD_BYTES: usize = 16;
const ENDED_BYTES: usize = ENDED_AFTER + 104;
/// Where in `struct ended` the last use stands, behind the opening.
const ENDED_AFTER: usize = 24 + OPENING_BYTES;
const PATH_AT: usize = 64;
const PATH_BYTES: usize = 104;
const ENDED_WITH_MESSAGES_BYTES: usize = 8 + ENDED_BYTES + MESSAGES * MESSAGE_BYTES;
const STACK_AT: usize = TAKEN_AT + super::raw::RUNTIME_BYTES_MAX;
const TAKEN_AT: usize = 48;

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: u16 = 1;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_MPTCP: u16 = 262;

/// `struct who`: a thread at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// Nanoseconds since boot.
    pub at: u64,
    /// The key of its path; 0 where it has none.
    pub path: u64,
    /// Its process, in the machine's own pid namespace.
    pub tgid: u32,
    /// Its number in our pid namespace.
    pub tid: u32,
    name: [u8; 16],
}

impl Who {
    fn new(bytes: &[u8], place: usize) -> Self {
        Who {
            at: u64_at(bytes, place),
            path: u64_at(bytes, place + 8),
            tgid: u32_at(bytes, place + 16),
            tid: u32_at(bytes, place + 20),
            name: at(bytes, place + 24),
        }
    }

    /// The thread's name.
    pub(super) fn name(&self) -> String {
        text(&self.name)
    }
}

/// How something came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Connected,
    Accepted,
    Created,
}

/// `struct opening`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// Of the socket or file: tells one from another at the same address.
    pub inode: u64,
    /// Who opened it.
    pub by: Who,
    /// Its descriptor; 0 where it connected.
    pub fd: u32,
    /// How.
    pub how: How,
    /// What it is.
    pub kind: Kind,
    /// True for IPv6.
    pub is_ipv6: bool,
    /// A file's path as it was asked for, and the descriptor of the folder that a relative one begins at.
    pub path: Option<(i32, String)>,
}

impl Opening {
    /// From all bytes of one.
    pub(super) fn new(bytes: &[u8; OPENING_BYTES]) -> Self {
        Opening::from(bytes, 0)
    }

    fn from(bytes: &[u8], place: usize) -> Self {
        let how = match bytes[place + 52] {
            0 => How::Connected,
            1 => How::Accepted,
            _ => How::Created,
        };
        let family = u16_at(bytes, place + 54);
        Opening {
            inode: u64_at(bytes, place),
            by: Who::new(bytes, place + 8),
            fd: u32_at(bytes, place + 48),
            how,
            kind: kind(bytes[place + 53], family, u16_at(bytes, place + 56), u16_at(bytes, place + 58)),
            is_ipv6: family == AF_INET6,
            path: Some(text(&bytes[place + PATH_AT..place + PATH_AT + PATH_BYTES]))
                .filter(|path| !path.is_empty())
                .map(|path| (u32_at(bytes, place + 60).cast_signed(), path)),
        }
    }
}

/// `struct message`: one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// Nanoseconds since boot.
    pub at: u64,
    /// Bytes written.
    pub length: u32,
    /// As many of them as were kept.
    pub bytes: Vec<u8>,
    /// True where only what came of encrypting it is known.
    pub is_encrypted: bool,
}

/// `struct use`: who used a socket last, and the last writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketUse {
    /// The socket's inode.
    pub inode: u64,
    /// Who.
    pub by: Who,
    /// How many writes prepared a statement so far.
    pub prepared: u32,
    /// The last writes, oldest first.
    pub writes: Vec<Write>,
}

impl SocketUse {
    /// From all bytes of one.
    pub(super) fn new(bytes: &[u8; USE_BYTES]) -> Self {
        SocketUse {
            inode: u64_at(bytes, 0),
            by: Who::new(bytes, 8),
            prepared: u32_at(bytes, 52),
            writes: writes(&bytes[MESSAGES_AT..], u32_at(bytes, 48)),
        }
    }
}

/// The messages of a ring into which `sends` were written, oldest first.
fn writes(bytes: &[u8], sends: u32) -> Vec<Write> {
    let first = (sends as usize).saturating_sub(MESSAGES);
    let write = |number: usize| {
        let message = &bytes[number % MESSAGES * MESSAGE_BYTES..][..MESSAGE_BYTES];
        let kept = usize::from(u16_at(message, 12)).min(PAYLOAD_BYTES);
        Write {
            at: u64_at(message, 0),
            length: u32_at(message, 8),
            bytes: message[16..16 + kept].to_vec(),
            is_encrypted: message[14] & 1 != 0,
        }
    };
    (first..sends as usize).map(write).collect()
}

/// The bytes of `struct prepared`, if it is of the socket with this inode.
pub(super) fn prepared(bytes: &[u8; PREPARED_BYTES], inode: u64) -> Option<Vec<u8>> {
    let kept = (u32_at(bytes, 8) as usize).min(PAYLOAD_BYTES);
    (u64_at(bytes, 0) == inode).then(|| bytes[16..16 + kept].to_vec())
}

/// `struct stack`, with the key of its path and its process in the machine's own pid namespace.
pub(super) fn stack(bytes: &[u8]) -> Option<(u64, u32, RawStack)> {
    let length = u32_at(bytes.get(..STACK_AT)?, 40) as usize;
    let registers = Registers { ip: u64_at(bytes, 8), sp: u64_at(bytes, 16), bp: u64_at(bytes, 24), lr: 0 };
    let runtime = if u32_at(bytes, 36) == 0 { Vec::new() } else { bytes[TAKEN_AT..STACK_AT].to_vec() };
    let stack = bytes.get(STACK_AT..STACK_AT + length)?.to_vec();
    // Less is copied where its mapping ends.
    let is_cut = length > super::raw::STACK_BYTES_MAX;
    Some((u64_at(bytes, 0), u32_at(bytes, 32), RawStack { registers, stack, is_cut, runtime }))
}

/// What the ring of endings tells.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// Something was closed.
    Ended(Box<Ended>),
    /// Descriptors of this process were closed that were not looked at one by one.
    LookAgain { tgid: u32, at: u64 },
    /// It runs another program.
    Executed { tgid: u32, at: u64 },
    /// It has ended.
    Exited { tgid: u32, at: u64 },
}

/// `struct ended`, or `struct ended_with_messages`.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// When, in nanoseconds since boot.
    pub at: u64,
    /// The address of the socket or open file.
    pub object: u64,
    /// How it began.
    pub opening: Opening,
    /// Who used it last.
    pub last_use: Option<Who>,
    /// How many writes prepared a statement; only with messages.
    pub prepared: u32,
    /// The last writes, where it was chosen to have them told.
    pub writes: Vec<Write>,
    /// Its addresses, of an internet socket that had them.
    pub local: Option<Address>,
    pub remote: Option<Address>,
    /// What it carried, of TCP.
    pub bytes: Option<(u64, u64)>,
}

/// Reads a record of the ring of endings.
pub(super) fn told(bytes: &[u8]) -> Option<Told> {
    let (sort, tgid, at) = (u32_at(bytes.get(..TOLD_BYTES)?, 0), u32_at(bytes, 4), u64_at(bytes, 8));
    match sort {
        0 => ended(bytes).map(|ended| Told::Ended(Box::new(ended))),
        1 => Some(Told::LookAgain { tgid, at }),
        2 => Some(Told::Executed { tgid, at }),
        3 => Some(Told::Exited { tgid, at }),
        _ => None,
    }
}

fn ended(bytes: &[u8]) -> Option<Ended> {
    let fixed = bytes.get(..ENDED_BYTES)?;
    let (opening, last_use) = (Opening::from(fixed, 24), Who::new(fixed, ENDED_AFTER));
    let (is_ipv6, is_tcp) = (opening.is_ipv6, opening.kind == Kind::Tcp);
    let address = |place: usize, port: usize| {
        let ip = match is_ipv6 {
            false => IpAddr::V4(Ipv4Addr::from(at::<4>(fixed, place))),
            true => IpAddr::V6(Ipv6Addr::from(at::<16>(fixed, place))),
        };
        let port = u16_at(fixed, port);
        (port != 0).then(|| Address::inet(ip, port))
    };
    let messages = if fixed[ENDED_AFTER + 48] == 1 { bytes.get(ENDED_BYTES..ENDED_WITH_MESSAGES_BYTES) } else { None };
    Some(Ended {
        at: u64_at(fixed, 8),
        object: u64_at(fixed, 16),
        opening,
        last_use: (last_use.at != 0).then_some(last_use),
        prepared: messages.map_or(0, |messages| u64_at(messages, 0) as u32),
        writes: messages.map(|messages| writes(&messages[8..], u32_at(fixed, ENDED_AFTER + 40))).unwrap_or_default(),
        local: address(ENDED_AFTER + 56, ENDED_AFTER + 44),
        remote: address(ENDED_AFTER + 72, ENDED_AFTER + 46),
        bytes: is_tcp.then(|| (u64_at(fixed, ENDED_AFTER + 88), u64_at(fixed, ENDED_AFTER + 96))),
    })
}

/// What is behind a closed descriptor: `enum kind` in `bpf/file.h`; of a socket its protocol, of what has no type the call
/// that made it.
fn kind(kind: u8, family: u16, socket_type: u16, protocol: u16) -> Kind {
    match (kind, family, protocol) {
        (1, AF_UNIX, _) => Kind::Unix,
        (1, AF_INET | AF_INET6, IPPROTO_TCP | IPPROTO_MPTCP) if socket_type == SOCK_STREAM => Kind::Tcp,
        (1, AF_INET | AF_INET6, IPPROTO_UDP) => Kind::Udp,
        (1, ..) => Kind::Socket,
        (2, ..) => Kind::File,
        (3, ..) => Kind::Directory,
        (4, ..) => Kind::CharDevice,
        (5, ..) => Kind::BlockDevice,
        (6, ..) => Kind::Pipe,
        _ => super::calls::kind(socket_type),
    }
}

/// `struct thread`: a thread, with its registers as they were when it entered the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    /// When its process started, in nanoseconds since boot.
    pub started: u64,
    /// The registers.
    pub registers: Registers,
    /// Where its thread-local storage is.
    pub fsbase: u64,
    /// The number of the system call that it is in.
    pub call: i64,
    /// How often it has let others run.
    pub switches: u64,
    /// Its process, in the machine's own pid namespace.
    pub tgid: u32,
    /// Its process and itself in our pid namespace.
    pub pid: u32,
    pub tid: u32,
    /// False while it runs or could.
    pub waits: bool,
    /// How deep our pid namespace lies below the machine's own.
    pub level: u32,
    /// Its name.
    pub name: String,
}

impl Thread {
    /// From all bytes of one.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..THREAD_BYTES)?;
        Some(Thread {
            started: u64_at(bytes, 0),
            registers: Registers { ip: u64_at(bytes, 8), sp: u64_at(bytes, 16), bp: u64_at(bytes, 24), lr: 0 },
            fsbase: u64_at(bytes, 32),
            call: u64_at(bytes, 40).cast_signed(),
            switches: u64_at(bytes, 48),
            tgid: u32_at(bytes, 56),
            pid: u32_at(bytes, 60),
            tid: u32_at(bytes, 64),
            waits: u32_at(bytes, 68) != 0,
            level: u32_at(bytes, 72),
            name: text(&bytes[80..96]),
        })
    }
}

/// Text up to its NUL.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
