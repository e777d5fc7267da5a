//! What processes hold, as the kernel's file iterator tells it: one pass over the files of a process, with addresses,
//! bytes and last activity. A row that is, byte for byte, the row of the tick before says that there is no news.
//!
//! The iterator knows no paths. A descriptor that is new and no connection is therefore looked at under `/proc` once, and
//! again when its file was renamed; where that is closed to us the path is unknown.

use super::descriptors::{DescriptorReader, Referent};
use super::holdings::Seen;
use super::iterator::{Clock, FileIterator, FileKind, ROW_BYTES, Row, SocketDetail};
use super::procfs::{ProcFs, ReadError};
use super::walk::{protocol_of, resource_of};
use crate::model::{
    Activity, Address, Descriptor, Identity, Kind, ProcessId, Resource, SocketType, Timestamp, UnixPeer,
};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

const AF_NETLINK: u16 = 16;
const AF_PACKET: u16 = 17;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_MPTCP: u16 = 262;
/// Marks the identity of a socket, as a walk does.
const SOCKET_IDENTITY: u64 = 8;
/// Marks the identity of an open file, so that no inode is taken for one.
const FILE_IDENTITY: u64 = 1 << 62;

/// Passes over the files of processes.
#[derive(Debug)]
pub(super) struct Pass {
    proc: ProcFs,
    iterator: FileIterator,
    descriptors: DescriptorReader,
    known: HashMap<u32, Known>,
    /// Whether queues, owners and the like are asked for too.
    with_details: bool,
}

/// What a process held at the last pass.
#[derive(Debug, Default)]
struct Known {
    rows: Vec<u8>,
    seen: Vec<Seen>,
    clock: Option<Clock>,
    at: Timestamp,
    /// What can't be told by a row alone, by descriptor.
    besides: HashMap<i32, Besides>,
}

/// What is known of a descriptor besides its row.
#[derive(Debug, Default)]
struct Besides {
    /// What `/proc` says of it.
    referent: Option<Referent>,
    /// What is told of a socket that is new.
    socket: Option<SocketDetail>,
    /// When its offset was last seen to have moved.
    moved: Option<Timestamp>,
}

impl Pass {
    /// Passes with this iterator; names of files come from `proc`.
    pub(super) fn new(proc: &ProcFs, iterator: FileIterator, with_details: bool) -> Self {
        let descriptors = DescriptorReader::new(proc);
        Pass { proc: proc.clone(), iterator, descriptors, known: HashMap::new(), with_details }
    }

    /// Reads what these processes hold now, and says of each whether it could be read.
    pub(super) fn read(&mut self, processes: &[ProcessId], at: Timestamp) -> Vec<Result<(), ReadError>> {
        processes.iter().map(|id| self.read_one(id.pid, at)).collect()
    }

    fn read_one(&mut self, pid: u32, at: Timestamp) -> Result<(), ReadError> {
        let folder = self.proc.folder(pid).join("fd");
        let failed = |source| ReadError::of_process(pid, &folder, source);
        let rows = self.iterator.read(pid).map_err(failed)?;
        // One that is ending has let go of all at once, and has closed nothing by itself.
        if rows.bytes().is_empty() && self.proc.is_ending(pid) {
            return Err(ReadError::Gone(pid));
        }
        let known = self.known.entry(pid).or_default();
        let renewed = known.take(rows.bytes(), rows.clock, at);
        let mut asks_details = self.with_details;
        for fd in renewed {
            let besides = known.besides.entry(fd).or_default();
            besides.referent = self.descriptors.examine_one(pid, fd).map(|slot| slot.referent);
            asks_details |= besides.referent.as_ref().is_none_or(|it| it.kind == Kind::Socket);
        }
        if asks_details {
            for detail in self.iterator.details(pid).map_err(failed)? {
                known.besides.entry(detail.fd).or_default().socket = Some(detail);
            }
        }
        Ok(())
    }

    /// The descriptors of a process that was read, in the order of their numbers.
    pub(super) fn seen(&self, pid: u32) -> impl Iterator<Item = Seen> {
        self.known.get(&pid).into_iter().flat_map(|known| known.seen.iter().copied())
    }

    /// What a descriptor of a process that was read refers to; `None` where it isn't held any more.
    pub(super) fn resource(&self, holder: &Descriptor) -> Option<Resource> {
        let known = self.known.get(&holder.process.pid)?;
        let place = known.seen.binary_search_by_key(&holder.fd, |seen| seen.fd).ok()?;
        let row = Row::new(&known.rows[place * ROW_BYTES..])?;
        let identity = known.seen[place].identity;
        let besides = known.besides.get(&holder.fd);
        match row.kind() {
            FileKind::Socket if is_in_table(row) => Some(socket(row, identity, known.clock, besides)),
            FileKind::Socket => {
                let (kind, name) = protocol_of(&self.proc, holder.process.pid, holder.fd)?;
                let kind = if kind == Kind::Socket { kind_by_family(row) } else { kind };
                Some(Resource { name, inode: Some(row.inode()), ..Resource::new(identity, kind) })
            }
            _ => Some(file(row, identity, known.at, besides)),
        }
    }

    /// Forgets a process that has ended, or that is the target's no more.
    pub(super) fn forget(&mut self, pid: u32) {
        self.known.remove(&pid);
        self.iterator.forget(pid);
    }
}

impl Known {
    /// Takes in the rows of a pass. Gives back the descriptors that rows alone don't tell and that are new or renamed.
    fn take(&mut self, rows: &[u8], clock: Clock, at: Timestamp) -> Vec<i32> {
        let before = std::mem::replace(&mut self.rows, rows.to_vec());
        let mut before = before.chunks_exact(ROW_BYTES).zip(std::mem::take(&mut self.seen)).peekable();
        let mut seen = Vec::with_capacity(rows.len() / ROW_BYTES);
        let mut renewed = Vec::new();
        for bytes in rows.chunks_exact(ROW_BYTES) {
            let Some(row) = Row::new(bytes) else { continue };
            while let Some((_, gone)) = before.next_if(|(_, it)| it.fd < row.fd()) {
                self.besides.remove(&gone.fd);
            }
            let known = before.next_if(|(_, it)| it.fd == row.fd());
            if let Some((_, known)) = known.filter(|(known, _)| *known == bytes) {
                seen.push(Seen { news: false, ..known });
                continue;
            }
            let now = Seen { fd: row.fd(), access: row.access(), identity: identity_of(row), news: true };
            let known = known.and_then(|(bytes, it)| Row::new(bytes).filter(|_| it.identity == now.identity));
            if known.is_none() {
                self.besides.remove(&now.fd);
            } else if known.is_some_and(|known| known.offset() != row.offset()) {
                self.besides.entry(now.fd).or_default().moved = Some(at);
            }
            if !is_told_by_row(row) && known.is_none_or(|known| known.path() != row.path()) {
                renewed.push(now.fd);
            }
            seen.push(now);
        }
        for (_, gone) in before {
            self.besides.remove(&gone.fd);
        }
        (self.seen, self.clock, self.at) = (seen, Some(clock), at);
        renewed
    }
}

/// A socket by its inode, anything else by the open file itself: what `dup`, `fork` or a Unix socket made of it is the
/// same, and another opening of one path another. What is behind it goes in too, for the kernel uses addresses again.
fn identity_of(row: Row) -> Identity {
    if row.kind() == FileKind::Socket {
        return Identity(SOCKET_IDENTITY, row.inode());
    }
    let mut hasher = DefaultHasher::new();
    (row.private_data(), row.inode(), row.device()).hash(&mut hasher);
    Identity(FILE_IDENTITY | hasher.finish() >> 2, row.file())
}

/// True for what needs no look besides: internet sockets.
fn is_told_by_row(row: Row) -> bool {
    row.kind() == FileKind::Socket && row.is_inet() && is_in_table(row)
}

/// True for the sockets that the kernel's tables list, and of which the row says what they do. One that was never bound or
/// connected is known by its protocol alone.
fn is_in_table(row: Row) -> bool {
    match kind_by_family(row) {
        Kind::Tcp | Kind::Udp | Kind::Raw => row.local().is_some(),
        Kind::Unix => true,
        _ => false,
    }
}

fn kind_by_family(row: Row) -> Kind {
    let inet = match (row.protocol(), row.socket_type()) {
        (IPPROTO_TCP | IPPROTO_MPTCP, Some(SocketType::Stream)) => Kind::Tcp,
        (IPPROTO_UDP, Some(SocketType::Datagram)) => Kind::Udp,
        (_, None) => Kind::Raw,
        _ => Kind::Socket,
    };
    match row.family() {
        AF_NETLINK => Kind::Netlink,
        AF_PACKET => Kind::Packet,
        _ if row.is_unix() => Kind::Unix,
        _ if row.is_inet() => inet,
        _ => Kind::Socket,
    }
}

/// A socket as the tables would have it.
fn socket(row: Row, identity: Identity, clock: Option<Clock>, besides: Option<&Besides>) -> Resource {
    let detail = besides.and_then(|besides| besides.socket.as_ref());
    let mut resource = Resource::new(identity, kind_by_family(row));
    resource.inode = Some(row.inode());
    resource.ipv6 = row.is_ipv6();
    resource.state = row.state().filter(|_| matches!(resource.kind, Kind::Tcp | Kind::Unix));
    resource.activity = Activity {
        bytes_sent: row.bytes_sent(),
        bytes_received: row.bytes_received(),
        silent_seconds: clock.and_then(|clock| row.silent_seconds(clock)),
    };
    if resource.kind == Kind::Unix {
        resource.socket_type = row.socket_type();
        resource.local = detail.and_then(|it| it.name.clone()).map(Address::Unix);
        resource.remote = detail.and_then(|it| it.peer_name.clone()).map(Address::Unix);
        resource.name = resource.local.as_ref().or(resource.remote.as_ref()).map(Address::to_string);
        resource.peer = row.peer_inode().map(|inode| UnixPeer { inode, owner: None });
    } else {
        resource.local = row.local();
        resource.remote = row.remote();
    }
    resource
}

/// Anything but a socket: what `/proc` says of it, or the little that the row does.
fn file(row: Row, identity: Identity, at: Timestamp, besides: Option<&Besides>) -> Resource {
    let mut resource = match besides.and_then(|besides| besides.referent.as_ref()) {
        Some(referent) => Resource { identity, ..resource_of(referent) },
        None => Resource { inode: Some(row.inode()), ..Resource::new(identity, kind_of(row.kind())) },
    };
    let moved = besides.and_then(|besides| besides.moved);
    resource.activity.silent_seconds = moved.map(|moved| at.seconds_since(moved)).or(resource.activity.silent_seconds);
    if let Some(offset) = row.offset() {
        resource.detail.get_or_insert_default().offset = Some(offset);
    }
    resource
}

fn kind_of(kind: FileKind) -> Kind {
    match kind {
        FileKind::Regular => Kind::File,
        FileKind::Directory => Kind::Directory,
        FileKind::Character => Kind::CharDevice,
        FileKind::Block => Kind::BlockDevice,
        FileKind::Fifo => Kind::Pipe,
        FileKind::Socket => Kind::Socket,
        FileKind::Anonymous | FileKind::Other => Kind::Other,
    }
}
