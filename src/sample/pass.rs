//! What processes hold, as the kernel's file iterator tells it: one pass over the files of a process, with addresses,
//! bytes and last activity. A row that is, byte for byte, the row of the tick before says that there is no news.
//!
//! The kernel uses addresses again: a file that is closed and opened again between two ticks, under the same number, may be
//! taken for the one before.
//!
//! The iterator knows no paths. A descriptor that is new and no connection is therefore looked at under `/proc` once, and
//! again when its file was renamed, or in turn, for a folder above may have been; where that is closed to us the path is unknown.

use super::descriptors::{DescriptorReader, SOCKET_IDENTITY, Slot, Turn};
use super::holdings::Seen;
use super::iterator::{Clock, FileIterator, FileKind, Held, ROW_BYTES, Row, SocketDetail};
use super::join::{kind_of_protocol, resource_of};
use super::procfs::{ProcFs, ReadError};
use super::sockets::{CONGESTION_STATES, CgroupPaths, SocketReader, unix_name};
use crate::model::{
    Access, Activity, Address, Descriptor, Detail, Identity, Kind, ProcessId, Resource, SocketType, Timestamp, UnixPeer,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

const AF_NETLINK: u16 = 16;
const AF_PACKET: u16 = 17;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_MPTCP: u16 = 262;
/// Marks the identity of an open file, so that no inode is taken for one.
const FILE_IDENTITY: u64 = 1 << 62;

/// Passes over the files of processes.
#[derive(Debug)]
pub(super) struct Pass {
    proc: ProcFs,
    iterator: FileIterator,
    descriptors: DescriptorReader,
    known: HashMap<u32, Known>,
    /// Processes whose `/proc/PID/fd` is closed to us: what their files are called is unknown.
    nameless: BTreeSet<u32>,
    /// Turns the kernel's addresses, which are nobody's business, into numbers.
    addresses: RandomState,
    cgroups: CgroupPaths,
    /// Where queues, owners and the like are asked for too: who knows of queues what the iterator can't.
    tables: Option<SocketReader>,
}

/// What a process held at the last pass.
#[derive(Debug, Default)]
struct Known {
    rows: Vec<u8>,
    seen: Vec<Seen>,
    clock: Option<Clock>,
    at: Timestamp,
    /// What can't be told by a row alone: of descriptors that are no sockets, in the order of their numbers.
    slots: Vec<Slot>,
    turn: Turn,
    /// Where looking for other names goes on.
    next_name: i32,
    /// What is asked once of a socket whose row doesn't tell all, by descriptor.
    sockets: HashMap<i32, Besides>,
    /// When a file's offset was last seen to have moved, by descriptor.
    moved: HashMap<i32, Timestamp>,
}

/// What is known of a socket besides its row.
#[derive(Debug)]
struct Besides {
    name: Option<Address>,
    peer_name: Option<Address>,
    protocol: String,
    detail: Option<Box<Detail>>,
}

/// Descriptors that a pass found to be new or changed, and that rows alone don't tell.
#[derive(Debug, Default)]
struct Renewed {
    sockets: Vec<i32>,
    others: Vec<i32>,
}

impl Pass {
    /// Passes with this iterator; names of files come from `proc`.
    pub(super) fn new(proc: &ProcFs, iterator: FileIterator, with_details: bool) -> Self {
        let mut descriptors = DescriptorReader::new(proc);
        if with_details {
            descriptors.ask_all_details();
        }
        Pass {
            proc: proc.clone(),
            iterator,
            descriptors,
            known: HashMap::new(),
            nameless: BTreeSet::new(),
            addresses: RandomState::new(),
            cgroups: CgroupPaths::new(proc),
            tables: with_details.then(|| SocketReader::new(proc, true).with_detail(true)),
        }
    }

    /// Reads what these processes hold now, and says of each whether it could be read.
    pub(super) fn read(&mut self, processes: &[ProcessId], at: Timestamp) -> Vec<Result<(), ReadError>> {
        let read = processes.iter().map(|id| self.read_one(id.pid, at, processes.len())).collect();
        self.ask_tables();
        read
    }

    /// Takes the details of sockets from the kernel's tables where these list them.
    fn ask_tables(&mut self) {
        let Some(tables) = &mut self.tables else { return };
        let is_socket = |seen: &&Seen| seen.identity.0 == SOCKET_IDENTITY;
        let inodes =
            |known: &Known| known.seen.iter().filter(is_socket).map(|seen| seen.identity.1).collect::<Vec<_>>();
        let rows = tables.read(self.known.iter().map(|(pid, known)| (*pid, inodes(known).into_iter())));
        for known in self.known.values_mut() {
            for seen in known.seen.iter().filter(is_socket) {
                if let Some(row) = rows.get(&seen.identity.1)
                    && let Some(besides) = known.sockets.get_mut(&seen.fd)
                {
                    besides.detail.clone_from(&row.detail);
                }
            }
        }
    }

    fn read_one(&mut self, pid: u32, at: Timestamp, processes: usize) -> Result<(), ReadError> {
        let folder = self.proc.folder(pid).join("fd");
        let failed = |source| ReadError::of_process(pid, &folder, source);
        let rows = self.iterator.read(pid).map_err(failed)?;
        // One that is ending has let go of all at once, and has closed nothing by itself.
        if rows.bytes().is_empty() && self.proc.is_ending(pid) {
            return Err(ReadError::Gone(pid));
        }
        // The first thread, whose table it walks, has ended before the others; or something keeps it from telling.
        if rows.bytes().is_empty() && (self.proc.stat(pid)?.ending || self.proc.descriptor_count(pid) > Some(0)) {
            return Err(ReadError::Denied { path: folder });
        }
        let known = self.known.entry(pid).or_default();
        let renewed = known.take(rows.bytes(), rows.clock, at, &self.addresses, self.tables.is_some());
        self.descriptors.look_again(pid, &mut known.slots, &mut known.turn, processes);
        self.descriptors.rename(pid, &mut known.slots, &mut known.next_name);
        for fd in renewed.others {
            match self.descriptors.examine_one(pid, fd) {
                Some(slot) => known.slots.push(slot),
                None if is_closed(&folder, fd) => {
                    self.nameless.insert(pid);
                }
                // It was closed meanwhile.
                None => {}
            }
        }
        known.slots.sort_unstable_by_key(|slot| slot.fd);
        known.pass_on_news();
        let Ok(details) = self.iterator.details(pid, renewed.sockets) else {
            // At the next pass all is new again.
            known.rows.clear();
            known.seen.clear();
            return Err(failed(std::io::ErrorKind::OutOfMemory.into()));
        };
        for detail in details {
            // It may be another by now, which the next tick will find.
            if known.row(detail.fd()).is_some_and(|row| row.file() == detail.file()) {
                let cgroups = self.tables.is_some().then_some(&mut self.cgroups);
                known.sockets.insert(detail.fd(), Besides::of(detail, cgroups));
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
        let row = known.row(holder.fd)?;
        let identity = known.seen[known.place(holder.fd)?].identity;
        Some(match row.kind() {
            FileKind::Socket => socket(row, identity, known.clock, known.sockets.get(&holder.fd)),
            _ => file(row, identity, known.slot(holder.fd), known.silent_seconds(holder.fd)),
        })
    }

    /// Where the kernel has what a descriptor refers to: a socket, or an open file.
    pub(super) fn object(&self, holder: &Descriptor) -> Option<u64> {
        let row = self.known.get(&holder.process.pid)?.row(holder.fd)?;
        Some(if row.kind() == FileKind::Socket { row.private_data() } else { row.file() })
    }

    /// The watches of all inotify instances that are open, each instance once; `None` where one could not be asked, and
    /// where there is none.
    pub(super) fn inotify_watches(&self) -> Option<u64> {
        let slots = self.known.values().flat_map(|known| known.slots.iter().map(move |slot| (known, slot)));
        let instances = slots.filter(|(_, slot)| slot.referent.kind == Kind::Inotify);
        let mut counted = HashSet::new();
        let mut watches = instances
            .filter(|(known, slot)| known.place(slot.fd).is_some_and(|at| counted.insert(known.seen[at].identity)))
            .map(|(_, slot)| slot.referent.detail.as_ref().and_then(|detail| detail.watches));
        let first = watches.next()??;
        watches.try_fold(first, |sum, one| Some(sum + one?))
    }

    /// What it can't see, and why.
    pub(super) fn note(&self) -> Option<String> {
        let pid = self.nameless.first()?;
        let more = match self.nameless.len() {
            1 => String::new(),
            all => format!(" and {} more", all - 1),
        };
        Some(format!(
            "what the files of process {pid}{more} are called is closed to us: run unclosed as its user or by sudo to see their paths"
        ))
    }

    /// Forgets a process that has ended, or that is the target's no more.
    pub(super) fn forget(&mut self, pid: u32) {
        self.known.remove(&pid);
        self.nameless.remove(&pid);
    }
}

impl Known {
    /// Where a descriptor stands among the rows.
    fn place(&self, fd: i32) -> Option<usize> {
        self.seen.binary_search_by_key(&fd, |seen| seen.fd).ok()
    }

    fn row(&self, fd: i32) -> Option<Row<'_>> {
        Row::new(self.rows.get(self.place(fd)? * ROW_BYTES..)?)
    }

    fn slot(&self, fd: i32) -> Option<&Slot> {
        self.slots.binary_search_by_key(&fd, |slot| slot.fd).ok().map(|place| &self.slots[place])
    }

    /// How long ago a file's offset was seen to have moved.
    fn silent_seconds(&self, fd: i32) -> Option<f64> {
        self.moved.get(&fd).map(|moved| self.at.seconds_since(*moved))
    }

    /// What a look at a slot has found is news of its row.
    fn pass_on_news(&mut self) {
        for slot in self.slots.iter().filter(|slot| slot.news) {
            if let Ok(place) = self.seen.binary_search_by_key(&slot.fd, |seen| seen.fd) {
                self.seen[place].news = true;
            }
        }
    }

    /// Takes in the rows of a pass. Gives back the descriptors that rows alone don't tell and that are new or renamed.
    fn take(
        &mut self,
        rows: &[u8],
        clock: Clock,
        at: Timestamp,
        addresses: &RandomState,
        with_details: bool,
    ) -> Renewed {
        let before = std::mem::replace(&mut self.rows, rows.to_vec());
        let mut before = before.chunks_exact(ROW_BYTES).zip(std::mem::take(&mut self.seen)).peekable();
        let mut seen = Vec::with_capacity(rows.len() / ROW_BYTES);
        let mut renewed = Renewed::default();
        let mut moved = Vec::new();
        let mut gone = HashSet::new();
        for bytes in rows.chunks_exact(ROW_BYTES) {
            let Some(row) = Row::new(bytes) else { continue };
            while let Some((_, it)) = before.next_if(|(_, it)| it.fd < row.fd()) {
                gone.insert(it.fd);
            }
            let known = before.next_if(|(_, it)| it.fd == row.fd());
            if let Some((_, known)) = known.filter(|(known, _)| *known == bytes) {
                seen.push(Seen { news: false, ..known });
                continue;
            }
            let now = Seen { fd: row.fd(), access: row.access(), identity: identity_of(row, addresses), news: true };
            let known = known.and_then(|(bytes, it)| Row::new(bytes).filter(|_| it.identity == now.identity));
            if known.is_none() {
                gone.insert(now.fd);
            }
            if known.is_some_and(|known| known.offset() != row.offset()) {
                moved.push(now.fd);
            }
            if row.kind() != FileKind::Socket {
                let has_other_path = known.is_none_or(|known| known.path() != row.path());
                renewed.others.extend(has_other_path.then_some(now.fd));
            } else if with_details || row.is_unix() || !is_in_table(row) {
                renewed.sockets.push(now.fd);
            }
            seen.push(now);
        }
        gone.extend(before.map(|(_, it)| it.fd));
        self.moved.retain(|fd, _| !gone.contains(fd));
        self.moved.extend(moved.into_iter().map(|fd| (fd, at)));
        gone.extend(&renewed.others);
        self.sockets.retain(|fd, _| !gone.contains(fd));
        self.slots.retain(|slot| !gone.contains(&slot.fd));
        (self.seen, self.clock, self.at) = (seen, Some(clock), at);
        renewed
    }
}

impl Besides {
    /// With its detail where the paths of cgroups are given.
    fn of(it: SocketDetail, cgroups: Option<&mut CgroupPaths>) -> Self {
        let name = |bytes: Option<&[u8]>| bytes.and_then(unix_name).map(Address::Unix);
        let detail = |cgroups: &mut CgroupPaths| Detail {
            uid: Some(it.uid()),
            cgroup: it.cgroup().and_then(|id| cgroups.path(id)).map(|path| path.to_string()),
            send_queue: it.send_queue(),
            receive_queue: it.receive_queue(),
            retransmits: it.retransmits(),
            congestion_state: it
                .congestion_state()
                .and_then(|state| CONGESTION_STATES.get(usize::from(state)))
                .map(|name| (*name).to_owned()),
            ..Detail::default()
        };
        Besides {
            name: name(it.name()),
            peer_name: name(it.peer_name()),
            protocol: it.protocol(),
            detail: cgroups.map(|cgroups| Box::new(detail(cgroups))),
        }
    }
}

/// True where a descriptor's link may not be read.
fn is_closed(folder: &Path, fd: i32) -> bool {
    let read = std::fs::read_link(folder.join(fd.to_string()));
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// A socket by its inode, anything else by the open file itself: what `dup`, `fork` or a Unix socket made of it is the
/// same, and another opening of one path another. What is behind it goes in too, for the kernel uses addresses again.
fn identity_of(row: Row, addresses: &RandomState) -> Identity {
    if row.kind() == FileKind::Socket {
        return Identity(SOCKET_IDENTITY, row.inode());
    }
    let behind = addresses.hash_one((row.private_data(), row.inode(), row.device()));
    Identity(FILE_IDENTITY | behind >> 2, addresses.hash_one((row.file(), behind)))
}

/// True for the sockets that the kernel's tables list, and of which the row says what they do. One that was never bound or
/// connected, or that the peer has reset, is known by its protocol alone.
fn is_in_table(row: Row) -> bool {
    match kind_by_family(row) {
        Kind::Tcp => row.has_port(),
        Kind::Udp | Kind::Raw => row.local().is_some(),
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
    let mut resource = Resource::new(identity, kind_by_family(row));
    resource.inode = Some(row.inode());
    resource.detail = besides.and_then(|besides| besides.detail.clone());
    if !is_in_table(row) {
        let protocol = besides.map(|besides| besides.protocol.as_str());
        let kind = protocol.map_or(Kind::Socket, kind_of_protocol);
        resource.kind = if kind == Kind::Socket { resource.kind } else { kind };
        resource.name = protocol.map(|protocol| format!("protocol: {protocol}"));
        resource.ipv6 = row.is_ipv6();
        return resource;
    }
    resource.ipv6 = row.is_ipv6();
    resource.state = row.state().filter(|_| matches!(resource.kind, Kind::Tcp | Kind::Unix));
    resource.activity = Activity {
        bytes_sent: row.bytes_sent(),
        bytes_received: row.bytes_received(),
        silent_seconds: clock.and_then(|clock| row.silent_seconds(clock)),
    };
    if resource.kind == Kind::Unix {
        resource.socket_type = row.socket_type();
        resource.local = besides.and_then(|besides| besides.name.clone());
        resource.remote = besides.and_then(|besides| besides.peer_name.clone());
        resource.name = resource.local.as_ref().or(resource.remote.as_ref()).map(Address::to_string);
        resource.peer = row.peer_inode().map(|inode| UnixPeer { inode, owner: None });
    } else {
        resource.name = (row.protocol() == IPPROTO_MPTCP).then(|| "protocol: MPTCP".to_owned());
        resource.local = row.local();
        resource.remote = row.remote();
    }
    resource
}

/// A connection as its process held it at its end, with its descriptor.
pub(super) fn connection(held: &Held) -> Option<(Resource, i32, Option<Access>)> {
    let row = held.row()?;
    let peer_name = held.peer_name().and_then(unix_name).map(Address::Unix);
    let besides = Besides { name: None, peer_name, protocol: String::new(), detail: None };
    let identity = Identity(SOCKET_IDENTITY, row.inode());
    Some((socket(row, identity, Some(held.clock()), Some(&besides)), row.fd(), row.access()))
}

/// Anything but a socket: what `/proc` says of it, or the little that the row does.
fn file(row: Row, identity: Identity, slot: Option<&Slot>, silent_seconds: Option<f64>) -> Resource {
    let mut resource = match slot {
        Some(slot) => Resource { identity, ..resource_of(&slot.referent) },
        None => {
            let kind = kind_of(row.kind());
            let deleted = matches!(kind, Kind::File | Kind::Directory).then(|| row.is_deleted());
            let detail = deleted.map(|deleted| Box::new(Detail { deleted: Some(deleted), ..Detail::default() }));
            Resource { inode: Some(row.inode()), detail, ..Resource::new(identity, kind) }
        }
    };
    resource.activity.silent_seconds = silent_seconds.or(resource.activity.silent_seconds);
    // A pidfd is a regular file to the kernel, and one opened with O_PATH stands nowhere.
    let has_offset = matches!(resource.kind, Kind::File | Kind::Memfd | Kind::BlockDevice) && row.access().is_some();
    if let Some(offset) = row.offset().filter(|_| has_offset) {
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
