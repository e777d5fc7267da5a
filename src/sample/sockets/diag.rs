//! `sock_diag` at the least cost: which of the kernel's socket tables are asked, and how.
//!
//! A dump lists every socket of the network namespace, so it costs what the machine holds, not what the target does. So
//! connections that an earlier dump has shown are asked for by themselves, in one of two ways. Many that share a port (a
//! pool's server, our own listener) come from a dump that the kernel limits to that port: passing a socket over costs it
//! a fraction of telling it. The others are asked for one by one, by addresses and cookie. New inodes are looked for with
//! the former first, for a new connection mostly goes where others go; what is then still missing takes whole dumps, of
//! small tables first. An inode that no table lists is looked for again ever more seldom: it may be bound or connected later.

use super::cgroup_id::CgroupPaths;
use super::inet::{self, AF_INET, AF_INET6, SocketId};
use super::inodes::{InodeMap, InodeSet};
use super::netlink::{Dumped, Netlink};
use super::plan::Plan;
use super::unix::{self, AF_UNIX};
use super::{Socket, SocketTable};
use crate::model::{Address, Kind};
use std::io;

const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_RAW: u16 = 255;

/// The kernel's tables in the order in which they are asked at first: what most targets hold comes first.
pub(super) const TABLES: [(u8, u16, Kind); 7] = [
    (AF_INET, IPPROTO_TCP, Kind::Tcp),
    (AF_INET6, IPPROTO_TCP, Kind::Tcp),
    (AF_UNIX, 0, Kind::Unix),
    (AF_INET, IPPROTO_UDP, Kind::Udp),
    (AF_INET6, IPPROTO_UDP, Kind::Udp),
    (AF_INET, IPPROTO_RAW, Kind::Raw),
    (AF_INET6, IPPROTO_RAW, Kind::Raw),
];

/// An inode that no table listed is looked for again after so many reads at the latest.
const RETRY_READS_MAX: u64 = 16;

/// Reads the socket tables of the network namespace it was opened in.
#[derive(Debug)]
pub(super) struct SockDiag {
    netlink: Netlink,
    /// Where the sockets of the last read were found.
    known: InodeMap<Known>,
    /// Wanted sockets that no table listed: of another family, neither bound nor connected, or reset by the peer.
    absent: InodeMap<Absence>,
    /// How many rows the last whole dump of each table had.
    rows: [usize; TABLES.len()],
    /// How many reads there were.
    reads: u64,
    /// A table of the last read may have left sockets out.
    pub torn: bool,
}

/// When a socket that no table listed is looked for again.
#[derive(Debug)]
struct Absence {
    /// The reads to wait, doubled each time.
    wait: u64,
    /// The read that looks again.
    due: u64,
}

/// Where a socket was found.
#[derive(Debug)]
struct Known {
    table: usize,
    /// Zeros for a Unix socket.
    id: SocketId,
}

/// What a read is after, and what it has found.
struct Search<'a> {
    wanted: &'a InodeSet,
    /// Given where details are asked for.
    cgroups: Option<&'a mut CgroupPaths>,
    found: SocketTable,
    known: InodeMap<Known>,
}

impl SockDiag {
    /// Reads over this socket.
    pub(super) fn new(netlink: Netlink) -> Self {
        SockDiag {
            netlink,
            known: InodeMap::default(),
            absent: InodeMap::default(),
            rows: [0; TABLES.len()],
            reads: 0,
            torn: false,
        }
    }

    /// The rows of the wanted inodes; with their details where the paths of cgroups are given. A family that the kernel
    /// was built without is passed over.
    pub(super) fn read(&mut self, wanted: &InodeSet, cgroups: Option<&mut CgroupPaths>) -> io::Result<SocketTable> {
        self.reads += 1;
        self.torn = false;
        self.absent.retain(|inode, _| wanted.contains(inode));
        let before = std::mem::take(&mut self.known);
        let mut search = Search { wanted, cgroups, found: SocketTable::default(), known: InodeMap::default() };
        search.found.reserve(wanted.len());
        let is_new = |inode: &u64| !before.contains_key(inode) && self.is_looked_for(*inode);
        let has_new = wanted.iter().any(is_new);
        let mut dumped = self.read_known(&before, has_new, &mut search)?;
        let mut tables: Vec<usize> = (0..TABLES.len()).collect();
        tables.sort_by_key(|table| self.rows[*table]);
        for table in tables {
            let is_missing = |inode: &u64| !search.found.contains_key(inode) && self.is_looked_for(*inode);
            if search.found.len() >= wanted.len() || !wanted.iter().any(is_missing) {
                break;
            }
            if !dumped[table] {
                self.dump(table, &mut search)?;
                dumped[table] = true;
            }
        }
        let Search { found, known, .. } = search;
        self.known = known;
        self.absent.retain(|inode, _| !found.contains_key(inode));
        if dumped == [true; TABLES.len()] {
            for inode in wanted.iter().filter(|inode| !found.contains_key(inode)) {
                let wait = self.absent.get(inode).map_or(1, |absence| (absence.wait * 2).min(RETRY_READS_MAX));
                self.absent.insert(*inode, Absence { wait, due: self.reads + wait });
            }
        }
        Ok(found)
    }

    /// Every row of the internet tables with its user and its cgroup that `take` wants, as told by its raw row; and of the
    /// Unix table those whose user is told and wanted.
    pub(super) fn read_all(
        &mut self,
        cgroups: &mut CgroupPaths,
        is_inet: impl Fn(&[u8]) -> bool,
        is_unix: impl Fn(&Socket) -> bool,
    ) -> io::Result<SocketTable> {
        let mut found = SocketTable::default();
        self.torn = false;
        for (family, protocol, kind) in TABLES {
            let ended = if kind == Kind::Unix {
                let rows = self.unix_rows(true, |_, socket| is_unix(socket))?;
                found.extend(rows.sockets);
                rows.ended
            } else {
                self.netlink.dump(&inet::request(family, protocol, &[0; 48]), |row| {
                    let inode = inet::inode(row).filter(|inode| *inode != 0 && is_inet(row));
                    if let Some((inode, socket)) = inode.zip(inet::parse(row, kind, Some(cgroups))) {
                        found.insert(inode, socket);
                    }
                })?
            };
            self.torn |= ended == Dumped::Torn;
        }
        Ok(found)
    }

    /// Whether it is worth a dump: not so while it was in none a short while ago.
    fn is_looked_for(&self, inode: u64) -> bool {
        self.absent.get(&inode).is_none_or(|absence| absence.due <= self.reads)
    }

    /// Asks the tables that had a wanted socket at the last read for those, the cheapest way. Tells which it dumped whole.
    fn read_known(
        &mut self,
        before: &InodeMap<Known>,
        has_new: bool,
        search: &mut Search,
    ) -> io::Result<[bool; TABLES.len()]> {
        let mut by_table: [Vec<(u64, &SocketId)>; TABLES.len()] = Default::default();
        for (inode, known) in before.iter().filter(|(inode, _)| search.wanted.contains(inode)) {
            by_table[known.table].push((*inode, &known.id));
        }
        let mut dumped = [false; TABLES.len()];
        for (table, known) in by_table.into_iter().enumerate().filter(|(_, known)| !known.is_empty()) {
            let (family, protocol, kind) = TABLES[table];
            let plan = if kind == Kind::Tcp { Plan::of(&known, self.rows[table], has_new) } else { Plan::Whole };
            let Plan::Ports(ports) = plan else {
                self.dump(table, search)?;
                dumped[table] = true;
                continue;
            };
            for port in ports {
                let request = inet::request(family, protocol, &inet::with_port(port));
                let ended = self.netlink.dump(&request, |row| search.keep_inet(row, table))?;
                self.torn |= ended == Dumped::Torn;
            }
            let missing = known.iter().filter(|(inode, _)| !search.found.contains_key(inode));
            let requests: Vec<Vec<u8>> = missing.map(|(_, id)| inet::request(family, protocol, id)).collect();
            self.netlink.look_up(&requests, |row| search.keep_inet(row, table))?;
        }
        Ok(dumped)
    }

    /// Asks a table for all its sockets, once more where its rows were torn.
    fn dump(&mut self, table: usize, search: &mut Search) -> io::Result<()> {
        if self.dump_once(table, search)? == Dumped::Torn {
            self.torn |= self.dump_once(table, search)? == Dumped::Torn;
        }
        Ok(())
    }

    fn dump_once(&mut self, table: usize, search: &mut Search) -> io::Result<Dumped> {
        let (family, protocol, kind) = TABLES[table];
        let mut rows = 0;
        let ended = if kind == Kind::Unix {
            let of = self.unix_rows(search.cgroups.is_some(), |inode, _| search.wanted.contains(&inode))?;
            for (inode, socket) in of.sockets {
                search.known.insert(inode, Known { table, id: [0; 48] });
                search.found.insert(inode, socket);
            }
            rows = of.rows;
            of.ended
        } else {
            self.netlink.dump(&inet::request(family, protocol, &[0; 48]), |row| {
                rows += 1;
                search.keep_inet(row, table);
            })?
        };
        self.rows[table] = rows;
        Ok(ended)
    }

    /// The Unix sockets that are wanted, with their peers' names.
    fn unix_rows(&mut self, with_detail: bool, wanted: impl Fn(u64, &Socket) -> bool) -> io::Result<UnixRows> {
        // A peer's name stands in the peer's own row, wanted or not.
        let mut names: InodeMap<Address> = InodeMap::default();
        let mut of = UnixRows { sockets: Vec::new(), rows: 0, ended: Dumped::Complete };
        of.ended = self.netlink.dump(&unix::request(with_detail), |row| {
            let Some((inode, socket)) = unix::parse(row, with_detail) else { return };
            of.rows += 1;
            if let Some(name) = &socket.local {
                names.insert(inode, name.clone());
            }
            if wanted(inode, &socket) {
                of.sockets.push((inode, socket));
            }
        })?;
        for (_, socket) in &mut of.sockets {
            socket.remote = socket.peer_inode.and_then(|peer| names.get(&peer).cloned());
        }
        Ok(of)
    }
}

/// What a dump of the Unix table gave.
struct UnixRows {
    sockets: Vec<(u64, Socket)>,
    rows: usize,
    ended: Dumped,
}

impl Search<'_> {
    /// Keeps the row of an internet table if its inode is wanted.
    fn keep_inet(&mut self, row: &[u8], table: usize) {
        if let Some(inode) = inet::inode(row)
            && self.wanted.contains(&inode)
            && let Some(id) = inet::id(row)
            && let Some(socket) = inet::parse(row, TABLES[table].2, self.cgroups.as_deref_mut())
        {
            self.known.insert(inode, Known { table, id });
            self.found.insert(inode, socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::inet::Port;
    use super::*;
    use crate::model::State;
    use rustix::net::{AddressFamily, SocketFlags, SocketType as NetSocketType, socket_with};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    fn tables() -> SockDiag {
        SockDiag::new(Netlink::open().expect("opens"))
    }

    fn inode(of: &impl AsFd) -> u64 {
        rustix::fs::fstat(of).expect("stat").st_ino
    }

    #[test]
    fn the_kernel_knows_both_ends_of_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connects");
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let wanted: InodeSet = InodeSet::from_iter([inode(&listener), inode(&client), inode(&ours)]);
        let table = tables().read(&wanted, None).expect("reads");
        assert_eq!(table.len(), 3);
        let row = &table[&inode(&client)];
        assert_eq!(row.state, Some(State::Established));
        assert_eq!(row.remote, listener.local_addr().ok().map(Address::Inet));
        assert_eq!((row.activity.bytes_sent, row.activity.bytes_received), (Some(0), Some(0)));
        assert!(row.activity.silent_seconds.is_some_and(|silent| silent < 60.0));
        assert_eq!(table[&inode(&listener)].state, Some(State::Listen));
        assert_eq!(table[&inode(&ours)].peer_inode, Some(inode(&theirs)));
    }

    #[test]
    fn a_known_connection_is_read_alike_by_itself_and_from_a_dump() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("address");
        let both = TcpListener::bind("[::]:0").expect("listens");
        let mapped = TcpStream::connect(("127.0.0.1", both.local_addr().expect("address").port())).expect("connects");
        let (accepted, _) = both.accept().expect("accepts");
        let client = TcpStream::connect(address).expect("connects");
        let wanted: InodeSet = InodeSet::from_iter(
            [&listener, &both].map(inode).into_iter().chain([&client, &mapped, &accepted].map(inode)),
        );
        let mut diag = tables();
        let steady = |mut table: SocketTable| {
            table.values_mut().for_each(|row| row.activity.silent_seconds = None);
            table
        };
        let dumped = steady(diag.read(&wanted, None).expect("reads"));
        // Makes one by one worth it, however few sockets this machine has.
        diag.rows = [1_000; TABLES.len()];
        assert_eq!(steady(diag.read(&wanted, None).expect("reads")), dumped);
        assert_eq!((dumped.len(), diag.rows), (5, [1_000; TABLES.len()]), "no dump was needed");
        drop((client, accepted));
        assert_eq!(diag.read(&wanted, None).expect("reads").len(), 3);
    }

    fn unconnected(family: AddressFamily, kind: NetSocketType) -> OwnedFd {
        socket_with(family, kind, SocketFlags::CLOEXEC, None).expect("a socket")
    }

    #[test]
    fn sockets_that_no_table_lists_are_looked_for_ever_more_seldom() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let fresh = unconnected(AddressFamily::INET, NetSocketType::STREAM);
        let netlink = unconnected(AddressFamily::NETLINK, NetSocketType::RAW);
        let wanted = InodeSet::from_iter([inode(&listener), inode(&fresh), inode(&netlink)]);
        let mut diag = tables();
        let mut dumps = Vec::new();
        for read in 0..40 {
            diag.rows = [1_000; TABLES.len()];
            assert_eq!(diag.read(&wanted, None).expect("reads").len(), 1);
            if diag.rows != [1_000; TABLES.len()] {
                dumps.push(read);
            }
        }
        assert_eq!(dumps, [0, 1, 3, 7, 15, 31]);
        diag.read(&InodeSet::from_iter([inode(&listener)]), None).expect("reads");
        assert!(diag.absent.is_empty(), "nobody wants them any more");
    }

    #[test]
    fn a_fresh_socket_is_found_once_it_is_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let fresh = unconnected(AddressFamily::INET, NetSocketType::STREAM);
        let wanted = InodeSet::from_iter([inode(&listener), inode(&fresh)]);
        let mut diag = tables();
        for _ in 0..40 {
            assert_eq!(diag.read(&wanted, None).expect("reads").len(), 1);
        }
        rustix::net::connect(&fresh, &listener.local_addr().expect("address")).expect("connects");
        let reads = (1..).find(|_| diag.read(&wanted, None).expect("reads").len() == 2);
        assert!(reads.is_some_and(|reads| reads <= RETRY_READS_MAX), "{reads:?}");
        assert!(diag.absent.is_empty());
    }

    #[test]
    fn connections_that_share_a_port_are_read_alike_by_it_and_from_a_dump() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("address");
        let clients: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(address).expect("connects")).collect();
        let wanted: InodeSet = clients.iter().map(inode).chain([inode(&listener)]).collect();
        let mut diag = tables();
        let steady = |mut table: SocketTable| {
            table.values_mut().for_each(|row| row.activity.silent_seconds = None);
            table
        };
        let dumped = steady(diag.read(&wanted, None).expect("reads"));
        // As on a machine that has three times as many: telling all costs more than telling those of one port.
        diag.rows = [120; TABLES.len()];
        let known: Vec<(u64, &SocketId)> = diag.known.iter().map(|(inode, it)| (*inode, &it.id)).collect();
        assert_eq!(Plan::of(&known, diag.rows[0], false), Plan::Ports(vec![Port::Remote(address.port())]));
        assert_eq!(steady(diag.read(&wanted, None).expect("reads")), dumped);
        // A new one to the same port is found with the others.
        let more = TcpStream::connect(address).expect("connects");
        let wanted: InodeSet = wanted.into_iter().chain([inode(&more)]).collect();
        assert_eq!(diag.read(&wanted, None).expect("reads").len(), 42);
        assert_eq!(diag.rows, [120; TABLES.len()], "no dump was needed");
    }
}
