//! Every socket of the namespace with no more than what counting them takes: the look at a whole machine.

use super::diag::TABLES;
use super::inet::{self, INET_DIAG_INFO};
use super::netlink::{Netlink, attributes, bytes_at};
use super::unix::{AF_UNIX, UNIX_DIAG_PEER};
use crate::model::{Kind, State};
use std::io;

/// `UDIAG_SHOW_PEER`.
const UDIAG_SHOW_PEER: u32 = 0x4;

/// The states that a socket of some process can be in, a bit each: all but `TIME_WAIT` and, not accepted yet, a request.
const HELD_STATES: u32 = !(1 << 6 | 1 << 12);

/// A socket in brief.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::sample) struct SocketRow {
    /// What descriptors' links name it by; never 0.
    pub inode: u64,
    /// TCP, UDP or Unix.
    pub kind: Kind,
    /// The user who made it; `None` of a Unix socket.
    pub uid: Option<u32>,
    /// True where it has a peer.
    pub connected: bool,
    /// The state of a TCP socket.
    pub state: Option<State>,
    /// Time since the last byte in either direction, of a TCP connection.
    pub silent_seconds: Option<f64>,
}

impl Netlink {
    /// Hands every TCP, UDP and Unix socket of the namespace that a process may hold to `take`. What waits to be accepted
    /// and what a process left behind has no inode, and is left out.
    pub(in crate::sample) fn read_all(&mut self, mut take: impl FnMut(SocketRow)) -> io::Result<()> {
        let mut keep = |row: Option<SocketRow>| {
            if let Some(row) = row.filter(|row| row.inode != 0) {
                take(row);
            }
        };
        for (family, protocol, kind) in TABLES {
            match kind {
                Kind::Tcp | Kind::Udp => {
                    let mut request = inet::request(family, protocol, &[0; 48]);
                    request[4..8].copy_from_slice(&HELD_STATES.to_ne_bytes());
                    self.dump(&request, |message| keep(parse_inet_row(message, kind)))?;
                }
                Kind::Unix => {
                    let mut request = [0u8; 24];
                    request[0] = AF_UNIX;
                    request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
                    request[12..16].copy_from_slice(&UDIAG_SHOW_PEER.to_ne_bytes());
                    self.dump(&request, |message| keep(parse_unix_row(message)))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A `struct inet_diag_msg` and its `struct tcp_info`.
fn parse_inet_row(message: &[u8], kind: Kind) -> Option<SocketRow> {
    let state = State::from_kernel(*message.get(1)?);
    let mut attributes = attributes(message.get(72..)?);
    let has_info = kind == Kind::Tcp && !matches!(state, None | Some(State::Listen | State::SynSent | State::SynRecv));
    let info = attributes.find(|(attribute, _)| *attribute == INET_DIAG_INFO);
    Some(SocketRow {
        inode: u64::from(u32::from_ne_bytes(bytes_at(message, 68)?)),
        kind,
        uid: Some(u32::from_ne_bytes(bytes_at(message, 64)?)),
        connected: bytes_at(message, 6).map(u16::from_be_bytes)? != 0,
        state: state.filter(|_| kind == Kind::Tcp),
        silent_seconds: info.filter(|_| has_info).and_then(|(_, info)| inet::activity(info).silent_seconds),
    })
}

/// A `struct unix_diag_msg` and the peer's inode.
fn parse_unix_row(message: &[u8]) -> Option<SocketRow> {
    Some(SocketRow {
        inode: u64::from(u32::from_ne_bytes(bytes_at(message, 4)?)),
        kind: Kind::Unix,
        uid: None,
        connected: attributes(message.get(16..)?).any(|(attribute, _)| attribute == UNIX_DIAG_PEER),
        state: None,
        silent_seconds: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn inode(of: &impl AsFd) -> u64 {
        rustix::fs::fstat(of).expect("stat").st_ino
    }

    #[test]
    fn every_socket_is_there_once_and_said_to_be_what_it_is() {
        let listener = TcpListener::bind("[::1]:0").expect("listens");
        let mut client = TcpStream::connect(listener.local_addr().expect("address")).expect("connects");
        let (accepted, _) = listener.accept().expect("accepts");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let (ours, _theirs) = UnixStream::pair().expect("pair");
        drop(accepted);
        assert_eq!(client.read(&mut [0]).expect("reads"), 0, "the peer's end has come");
        let mut rows: HashMap<u64, Vec<SocketRow>> = HashMap::new();
        let mut diag = Netlink::open().expect("opens");
        diag.read_all(|row| rows.entry(row.inode).or_default().push(row)).expect("reads");
        assert!(!rows.contains_key(&0));
        let mut one = |inode| match rows.remove(&inode).unwrap_or_default()[..] {
            [row] => row,
            ref rows => panic!("{rows:?}"),
        };
        let (listens, waits) = (one(inode(&listener)), one(inode(&client)));
        assert_eq!((listens.state, listens.connected, listens.silent_seconds), (Some(State::Listen), false, None));
        assert_eq!((waits.state, waits.connected), (Some(State::CloseWait), true));
        assert!(waits.silent_seconds.is_some_and(|silent| silent < 60.0));
        assert_eq!(waits.uid, Some(rustix::process::geteuid().as_raw()));
        let (bound, paired) = (one(inode(&udp)), one(inode(&ours)));
        assert_eq!((bound.kind, bound.state, bound.connected), (Kind::Udp, None, false));
        assert_eq!((paired.kind, paired.uid, paired.connected), (Kind::Unix, None, true));
    }

    #[test]
    fn a_row_that_is_cut_is_none() {
        assert_eq!(parse_inet_row(&[2, 1, 0, 0], Kind::Tcp), None);
        assert_eq!(parse_unix_row(&[1, 1]), None);
    }
}
