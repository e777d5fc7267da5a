//! What lsof says, field by field: the reading of `lsof -F`, and its rows in our own words.
//!
//! The tests hold `unclosed list` against `lsof -i -a -p PID -n -P -F` and `lsof -U -a -p PID -F` over
//! `tests/leakers/zoo.py`. What lsof 4.95 and ss 6.1 said of it once is kept under `tests/fixtures/lsof/`.
//!
//! # The form
//! A line is a letter and a value, up to the line's end. `p` begins a process (`c` its command, `u` and `L` its user by
//! number and name, `g` and `R` its group and parent), `f` a descriptor, whose fields follow: `a` access (`r`, `w`, `u`, a
//! space if unknown), `l` lock, `t` TYPE, `G` flags, `D` device number, `d` DEVICE as characters, `s` size, `o` offset,
//! `i` inode, `k` links, `P` protocol, `n` NAME, `TST=` state, `TQR=` and `TQS=` queues. In the table the state stands in
//! parentheses behind the NAME. Line ends and other control characters in a NAME are escaped (`new\nline`).
//!
//! # The zoo by lsof's fields
//! | member | `t` TYPE | NODE | inode in | `n` NAME | `TST=` |
//! |---|---|---|---|---|---|
//! | TCP listening | `IPv4` `IPv6` | `PTCP` | `d` | `127.0.0.1:80`, `[::1]:80`, `*:80` for any address of either family | `LISTEN` |
//! | TCP connected, either end | `IPv4` `IPv6` | `PTCP` | `d` | `127.0.0.1:5->127.0.0.1:80`, `[::1]:5->[::1]:80` | `ESTABLISHED` |
//! | half closed by us / by the peer | same | `PTCP` | `d` | same | `FIN_WAIT2` / `CLOSE_WAIT` |
//! | SYN dropped by a full listener | same | `PTCP` | `d` | same | `SYN_SENT` |
//! | v4-mapped, accepted or connecting | `IPv6` | `PTCP` | `d` | as of IPv4, `127.0.0.1:80->127.0.0.1:5`, no `::ffff:` | as above |
//! | TCP fresh, bound only, or reset | `sock` | | `i` | `protocol: TCP`, `protocol: TCPv6` | none |
//! | UDP bound / connected | `IPv4` `IPv6` | `PUDP` | `d` | `127.0.0.1:53`, `*:53` / `127.0.0.1:5->127.0.0.1:53` | none |
//! | UDP fresh; UDP-Lite, always | `sock` | | `i` | `protocol: UDP`, `UDPv6`, `UDP-Lite` | none |
//! | MPTCP listening | `IPv4` | `PTCP` | `d` | as TCP | `LISTEN` |
//! | Unix, no name | `unix` | inode | `i` | `type=STREAM`, `type=DGRAM`, `type=SEQPACKET` | see below |
//! | Unix, path / abstract | `unix` | inode | `i` | `/run/s type=STREAM` / `@name type=STREAM` | see below |
//! | Unix peer, only with `+E` | `unix` | inode | `i` | `type=STREAM ->INO=26658 16278,python3,48u` | `CONNECTED` |
//! | netlink, vsock | `sock` | | `i` | `protocol: NETLINK`, `protocol: AF_VSOCK` | none |
//! | raw, raw IPv6 | `raw` `raw6` | | `i` | `00000000:0001->00000000:0000 st=07`, in hexadecimal | none |
//! | packet | `pack` | `P`, in decimal | `d` | `type=SOCK_RAW`, `type=SOCK_DGRAM` | none |
//! | file, directory, devices | `REG` `DIR` `CHR` `BLK` | inode | `i` | the path; ` (deleted)` behind it once unlinked | none |
//! | memfd | `REG` | inode | `i` | `/memfd:name (deleted)` | none |
//! | pipe / FIFO | `FIFO` | inode | `i` | `pipe` / the path | none |
//! | eventfd, epoll, inotify, fanotify | `a_inode` | inode | `i` | `[eventfd:1]`, `[eventpoll]`, `inotify`, `[fanotify]` | none |
//! | timerfd, signalfd, pidfd | `a_inode` | inode | `i` | `[timerfd]`, `[signalfd]`, `[pidfd:16278]` | none |
//! | io_uring, userfaultfd, BPF, perf | `a_inode` | inode | `i` | `[io_uring]`, `[userfaultfd]`, `bpf-map`, `[perf_event]` | none |
//!
//! A Unix socket is `CONNECTED`, `LISTEN` or `UNCONNECTED`, which are the kernel's `ESTABLISHED`, `LISTEN` and `CLOSE`. A
//! datagram socket that another one connected to is `CONNECTED` itself. A peer that is gone leaves `CONNECTED` behind.
//!
//! # Where lsof is wrong or silent
//! - `-i` counts only what `/proc/net/{tcp,udp}{,6}` list: a TCP socket that is fresh, bound only or reset is `sock` and not
//!   counted, nor are raw, UDP-Lite, packet and netlink sockets. A listener held by two descriptors is counted twice.
//! - `-U` doesn't tell peers; `+E` does, but also lists their processes' descriptors, and is wrong for a listener with a
//!   connection that waits to be accepted: it takes the client for the listener's peer (ss: `peers: 26677`, and 0 for the
//!   client's own peer). For a bound datagram socket that others connected to it names one of these; ss says 0.
//! - A Unix path ends at its first space: `/tmp/zoo/bound only` is `/tmp/zoo/bound`. ss has it whole.
//! - A Unix path that is unlinked bears no `(deleted)`.
//! - `-E` names who else holds an end of a pipe, and takes minutes where the machine has some 10,000 sockets: two
//!   processes' rows beside one another tell it, too.
//! - `d` of a Unix socket is the kernel's address, hashed: it identifies nothing.
//! - `O_PATH` descriptors have access `u`, though they can neither be read nor written.
//! - Eventfd, epoll, inotify and others share one inode.
//! - Older versions, and where `/proc` hides it, say `can't identify protocol` for `protocol: X`.
//! - ss knows v4-mapped sockets as `[::ffff:127.0.0.1]:80`, and lists no socket that `/proc/net` doesn't.

/// One descriptor as lsof has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// The process.
    pub(crate) pid: u32,
    /// Its command, cut at lsof's width (9 unless `+c` says otherwise).
    pub(crate) command: String,
    /// Its user, by name; by number where the name isn't known.
    pub(crate) user: String,
    /// The descriptor's number. What has none (`cwd`, `txt`, `mem`) is left out.
    pub(crate) fd: i32,
    /// `r`, `w` or `u`; `None` where lsof doesn't know.
    pub(crate) access: Option<char>,
    /// The TYPE column.
    pub(crate) type_name: String,
    /// The NODE column: a protocol for sockets of the internet, else the inode; empty where the table has none.
    pub(crate) node: String,
    /// The inode, whichever column it stands in.
    pub(crate) inode: Option<u64>,
    /// The DEVICE column where it is a number or an address; for sockets of the internet it is the inode.
    pub(crate) device: String,
    /// The NAME column without the state.
    pub(crate) name: String,
    /// The state, without parentheses.
    pub(crate) state: Option<String>,
    /// Where in a file the next byte is read or written.
    pub(crate) offset: Option<u64>,
}

/// Reads what `lsof -F` printed; descriptors in lsof's order.
pub(crate) fn parse(text: &str) -> Vec<Record> {
    let mut records = Vec::new();
    let mut process = Record::default();
    let mut current: Option<Record> = None;
    for line in text.lines() {
        let Some(field) = line.chars().next() else { continue };
        let value = &line[field.len_utf8()..];
        match (field, &mut current) {
            ('p', _) => {
                records.extend(current.take());
                process = Record { pid: value.parse().unwrap_or_default(), ..Record::default() };
            }
            ('f', _) => {
                records.extend(current.take());
                current = value.parse().ok().map(|fd| Record { fd, ..process.clone() });
            }
            ('c', None) => process.command = value.to_owned(),
            ('u', None) if process.user.is_empty() => process.user = value.to_owned(),
            ('L', None) => process.user = value.to_owned(),
            (_, Some(record)) => record.set(field, value),
            _ => {}
        }
    }
    records.extend(current);
    records
}

impl Record {
    fn set(&mut self, field: char, value: &str) {
        match field {
            'a' => self.access = value.chars().next().filter(|letter| *letter != ' '),
            't' => self.type_name = value.to_owned(),
            'D' => self.device = value.to_owned(),
            'd' => {
                self.device = value.to_owned();
                if matches!(self.type_name.as_str(), "IPv4" | "IPv6" | "pack") {
                    self.inode = value.parse().ok();
                }
            }
            'i' => {
                self.inode = value.parse().ok();
                self.node = value.to_owned();
            }
            'o' => self.offset = value.strip_prefix("0t").and_then(|offset| offset.parse().ok()),
            'P' => self.node = value.to_owned(),
            'n' => self.name = value.to_owned(),
            'T' => {
                if let Some(state) = value.strip_prefix("ST=") {
                    self.state = Some(state.to_owned());
                }
            }
            _ => {}
        }
    }

    /// `TYPE NODE NAME STATE`, a `-` for what is missing.
    pub(crate) fn row(&self) -> String {
        let node = if self.node.is_empty() { "-" } else { &self.node };
        format!("{} {node} {} {}", self.type_name, self.name, self.state.as_deref().unwrap_or("-"))
    }

    /// The kind by our names (`model::Kind`).
    pub(crate) fn kind(&self) -> &'static str {
        let name = self.name.as_str();
        match self.type_name.as_str() {
            "IPv4" | "IPv6" if self.node == "TCP" => "tcp",
            "IPv4" | "IPv6" => "udp",
            "unix" => "unix",
            "raw" | "raw6" => "raw",
            "pack" => "packet",
            "sock" => match name.strip_prefix("protocol: ") {
                Some("TCP" | "TCPv6") => "tcp",
                Some("UDP" | "UDPv6") => "udp",
                Some("NETLINK") => "netlink",
                _ => "socket",
            },
            "REG" if name.starts_with("/memfd:") => "memfd",
            "REG" => "file",
            "DIR" => "directory",
            "CHR" => "chardev",
            "BLK" => "blockdev",
            "FIFO" => "pipe",
            "a_inode" => match name.trim_matches(['[', ']']).split(':').next() {
                Some("eventfd") => "eventfd",
                Some("eventpoll") => "epoll",
                Some("inotify") => "inotify",
                Some("fanotify") => "fanotify",
                Some("timerfd") => "timerfd",
                Some("signalfd") => "signalfd",
                Some("pidfd") => "pidfd",
                Some("io_uring") => "io_uring",
                Some("userfaultfd") => "userfaultfd",
                Some("perf_event") => "perf_event",
                Some(bpf) if bpf.starts_with("bpf-") => "bpf",
                _ => "other",
            },
            _ => "other",
        }
    }

    /// Our end of a socket of the internet as we write it: `10.0.0.1:5432`, `[::1]:5432`; `*` becomes the family's own
    /// address of any host.
    pub(crate) fn local(&self) -> Option<String> {
        self.ends().map(|(local, _)| local)
    }

    /// The other end.
    pub(crate) fn remote(&self) -> Option<String> {
        self.ends().and_then(|(_, remote)| remote)
    }

    /// The state by the kernel's names.
    pub(crate) fn kernel_state(&self) -> Option<&str> {
        match self.state.as_deref() {
            Some("CONNECTED") => Some("ESTABLISHED"),
            Some("UNCONNECTED") => Some("CLOSE"),
            other => other,
        }
    }

    /// A Unix socket's `STREAM`, `DGRAM` or `SEQPACKET`.
    pub(crate) fn socket_type(&self) -> Option<&str> {
        self.words().find_map(|word| word.strip_prefix("type="))
    }

    /// A Unix socket's path or `@` name, without what follows the path's first space; `None` where it has none.
    pub(crate) fn unix_name(&self) -> Option<&str> {
        self.words().next().filter(|word| !word.starts_with("type="))
    }

    /// The inode of a Unix socket's peer, told with `+E`.
    pub(crate) fn peer_inode(&self) -> Option<u64> {
        self.words().find_map(|word| word.strip_prefix("->INO=")).and_then(|inode| inode.parse().ok())
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.name.split(' ').filter(|_| self.type_name == "unix")
    }

    fn ends(&self) -> Option<(String, Option<String>)> {
        let any = match self.type_name.as_str() {
            "IPv4" => "0.0.0.0",
            "IPv6" => "[::]",
            _ => return None,
        };
        let written = |end: &str| end.strip_prefix('*').map_or(end.to_owned(), |port| format!("{any}{port}"));
        match self.name.split_once("->") {
            Some((local, remote)) => Some((written(local), Some(written(remote)))),
            None => Some((written(&self.name), None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERNET: &str = include_str!("../fixtures/lsof/internet.fields");
    const UNIX: &str = include_str!("../fixtures/lsof/unix.fields");
    const UNIX_PEERS: &str = include_str!("../fixtures/lsof/unix-peers.fields");
    const ALL: &str = include_str!("../fixtures/lsof/all.fields");
    const ZOO: &str = include_str!("../fixtures/lsof/zoo.json");

    /// The descriptor of a member of the captured zoo.
    fn fd(member: &str) -> i32 {
        let (_, rest) = ZOO.split_once(&format!("\"{member}\": ")).unwrap_or_else(|| panic!("{member} is in the zoo"));
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    }

    fn member(text: &str, member: &str) -> Record {
        parse(text).into_iter().find(|record| record.fd == fd(member)).unwrap_or_else(|| panic!("lsof tells {member}"))
    }

    /// A member's row; `N` stands for its ports and inodes, which are the numbers of four digits and more.
    fn check(text: &str, name: &str, expect: &str) {
        let row = member(text, name).row();
        let mut masked = String::new();
        for part in row.split_inclusive(|next: char| !next.is_ascii_digit()) {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            masked += if digits >= 4 { "N" } else { &part[..digits] };
            masked += &part[digits..];
        }
        assert_eq!(masked, expect, "{name}");
    }

    #[test]
    fn rows_of_the_internet() {
        check(INTERNET, "tcp4_listen", "IPv4 TCP 127.0.0.1:N LISTEN");
        check(INTERNET, "tcp4_accepted", "IPv4 TCP 127.0.0.1:N->127.0.0.1:N ESTABLISHED");
        check(INTERNET, "tcp6_client", "IPv6 TCP [::1]:N->[::1]:N ESTABLISHED");
        check(INTERNET, "tcp4_fin_wait2", "IPv4 TCP 127.0.0.1:N->127.0.0.1:N FIN_WAIT2");
        check(INTERNET, "tcp4_close_wait", "IPv4 TCP 127.0.0.1:N->127.0.0.1:N CLOSE_WAIT");
        check(INTERNET, "tcp4_close_wait_peer_gone", "IPv4 TCP 127.0.0.1:N->127.0.0.1:N CLOSE_WAIT");
        check(INTERNET, "tcp6_syn_sent", "IPv6 TCP [::1]:N->[::1]:N SYN_SENT");
        check(INTERNET, "mapped_listen", "IPv6 TCP *:N LISTEN");
        check(INTERNET, "mapped_accepted", "IPv6 TCP 127.0.0.1:N->127.0.0.1:N ESTABLISHED");
        check(INTERNET, "udp6_bound_any", "IPv6 UDP *:N -");
        check(INTERNET, "udp_mapped_connected", "IPv6 UDP 127.0.0.1:N->127.0.0.1:N -");
        check(INTERNET, "mptcp_listen", "IPv4 TCP 127.0.0.1:N LISTEN");
    }

    #[test]
    fn rows_of_unix() {
        check(UNIX, "unix_stream_pair_left", "unix N type=STREAM CONNECTED");
        check(UNIX, "unix_stream_path_listen", "unix N /tmp/zoo/stream type=STREAM LISTEN");
        check(UNIX, "unix_dgram_bound", "unix N /tmp/zoo/datagram type=DGRAM CONNECTED");
        check(UNIX, "unix_seqpacket_fresh", "unix N type=SEQPACKET UNCONNECTED");
        check(UNIX, "unix_stream_peer_gone", "unix N type=STREAM CONNECTED");
        check(UNIX, "unix_stream_bound", "unix N /tmp/zoo/bound type=STREAM UNCONNECTED");
        let accepted = member(UNIX_PEERS, "unix_stream_abstract_accepted");
        assert_eq!(accepted.socket_type(), Some("STREAM"));
        assert!(accepted.unix_name().is_some_and(|name| name.starts_with("@zoo-")));
        assert_eq!(accepted.peer_inode(), member(UNIX_PEERS, "unix_stream_abstract_client").inode);
        assert_eq!(member(UNIX_PEERS, "unix_stream_pair_left").unix_name(), None);
        assert_eq!(accepted.kernel_state(), Some("ESTABLISHED"));
    }

    #[test]
    fn rows_that_neither_i_nor_u_selects() {
        for name in ["tcp4_fresh", "tcp4_bound", "tcp4_reset"] {
            check(ALL, name, "sock N protocol: TCP -");
            assert!(parse(INTERNET).iter().all(|record| record.fd != fd(name)), "{name}");
        }
        check(ALL, "udp6_fresh", "sock N protocol: UDPv6 -");
        check(ALL, "file_deleted", "REG N /tmp/zoo/deleted (deleted) -");
        check(ALL, "file_newline", "REG N /tmp/zoo/new\\nline -");
        check(ALL, "pipe_read", "FIFO N pipe -");
        assert_eq!(member(ALL, "packet").inode.map(|inode| inode > 0), Some(true));
        assert_eq!(
            ["file_read", "file_write", "file_both"].map(|name| member(ALL, name).access),
            [Some('r'), Some('w'), Some('u')]
        );
    }

    #[test]
    fn addresses_are_written_as_ours() {
        let wild = member(INTERNET, "tcp4_listen_any");
        assert!(wild.local().is_some_and(|local| local.starts_with("0.0.0.0:")));
        assert_eq!(wild.remote(), None);
        assert!(member(INTERNET, "mapped_listen").local().is_some_and(|local| local.starts_with("[::]:")));
        let (client, accepted) = (member(INTERNET, "tcp6_client"), member(INTERNET, "tcp6_accepted"));
        assert_eq!((client.local(), client.remote()), (accepted.remote(), accepted.local()));
        assert_eq!(member(UNIX, "unix_stream_path_listen").local(), None);
    }

    #[test]
    fn a_socket_held_twice_is_told_twice() {
        let (one, other) = (member(INTERNET, "tcp4_listen_any"), member(INTERNET, "tcp4_listen_any_dup"));
        assert_eq!((one.inode, one.name), (other.inode, other.name));
    }

    #[test]
    fn kinds_have_our_names() {
        for (name, kind) in [
            ("tcp4_listen", "tcp"),
            ("tcp6_bound", "tcp"),
            ("udp4_connected", "udp"),
            ("udp4_fresh", "udp"),
            ("unix_dgram_fresh", "unix"),
            ("raw4", "raw"),
            ("raw6", "raw"),
            ("packet", "packet"),
            ("netlink", "netlink"),
            ("vsock", "socket"),
            ("udplite", "socket"),
            ("file_write", "file"),
            ("proc_file", "file"),
            ("memfd", "memfd"),
            ("directory", "directory"),
            ("dev_null", "chardev"),
            ("pty_master", "chardev"),
            ("block_device", "blockdev"),
            ("fifo", "pipe"),
            ("pipe_write", "pipe"),
            ("eventfd", "eventfd"),
            ("epoll", "epoll"),
            ("inotify", "inotify"),
            ("fanotify", "fanotify"),
            ("timerfd", "timerfd"),
            ("signalfd", "signalfd"),
            ("pidfd", "pidfd"),
            ("io_uring", "io_uring"),
            ("userfaultfd", "userfaultfd"),
            ("bpf_map", "bpf"),
            ("perf_event", "perf_event"),
        ] {
            assert_eq!(member(ALL, name).kind(), kind, "{name}");
        }
    }

    #[test]
    fn every_descriptor_is_read_and_belongs_to_the_process() {
        let count = |text: &str| text.lines().filter(|line| line.starts_with('f')).count();
        for text in [INTERNET, UNIX, UNIX_PEERS, ALL] {
            let records = parse(text);
            assert_eq!(records.len(), count(text));
            let process = &records[0];
            assert!(
                records
                    .iter()
                    .all(|record| record.pid == process.pid && record.command == "python3" && record.user == "root")
            );
            assert!(records.iter().all(|record| !record.type_name.is_empty() && !record.name.is_empty()));
        }
        assert_eq!(parse("p1\ncinit\nu0\nfcwd\na \ntDIR\nn/\n"), []);
    }
}
