//! Netlink messages to the kernel's `sock_diag` and back.
//!
//! Formats: netlink(7), sock_diag(7). Everything is in the machine's byte order.

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};
use std::io;
use std::os::fd::OwnedFd;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `NLM_F_REQUEST`.
const ONE: u16 = 0x1;
/// `NLM_F_DUMP_INTR`: the table changed in a way that may have left rows out.
const INTERRUPTED: u16 = 0x10;

/// Sockets that are asked for before their answers are read: what the socket's receive buffer holds by default.
const LOOKUPS_AT_ONCE: usize = 32;

/// The kernel hands out at most 32 KiB a read.
const BUFFER_BYTES: usize = 65_536;

/// An open `sock_diag` socket. It sees the network namespace it was opened in, whoever uses it later.
#[derive(Debug)]
pub(in crate::sample) struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// How a dump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dumped {
    /// With its last row.
    Complete,
    /// Rows may be missing: the kernel says so, or had no room for some.
    Torn,
    /// This kernel has no such table.
    NoTable,
}

impl Netlink {
    /// Opens one in the network namespace of this thread; needs no privilege.
    pub(in crate::sample) fn open() -> io::Result<Self> {
        let kind = SocketType::RAW;
        let socket = socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
        Ok(Netlink { socket, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Sends a request for many rows and hands each to `take`. After an error the socket is of no use any more: the rest
    /// of the answer may still be in it.
    pub(super) fn dump(&mut self, request: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<Dumped> {
        send(&self.socket, &message(DUMP, request), SendFlags::empty())?;
        let mut ending = Dumped::Complete;
        loop {
            let length = match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((_, length)) => length.min(BUFFER_BYTES),
                Err(Errno::INTR) => continue,
                // The dump goes on, but some of it is lost.
                Err(Errno::NOBUFS) => {
                    ending = Dumped::Torn;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut rest = &self.buffer[..length];
            if rest.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel sent nothing"));
            }
            while let Some((it, following)) = first_message(rest) {
                rest = following;
                if it.flags & INTERRUPTED != 0 {
                    ending = Dumped::Torn;
                }
                match it.kind {
                    // Both hold a code: a dump that was begun and then refused ends with it, too.
                    NLMSG_DONE | NLMSG_ERROR => return ended(it.body, ending),
                    SOCK_DIAG_BY_FAMILY => take(it.body),
                    _ => {}
                }
            }
        }
    }

    /// Asks for single rows and hands each to `take`. Those that are gone, or that it had no room to answer for, are left
    /// out.
    pub(super) fn look_up<R: AsRef<[u8]>>(&mut self, requests: &[R], mut take: impl FnMut(&[u8])) -> io::Result<()> {
        for requests in requests.chunks(LOOKUPS_AT_ONCE) {
            let all: Vec<u8> = requests.iter().flat_map(|request| message(ONE, request.as_ref())).collect();
            send(&self.socket, &all, SendFlags::empty())?;
            // The answers are there when `send` returns, each by itself.
            loop {
                let length = match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                    Ok((_, length)) => length.min(BUFFER_BYTES),
                    Err(Errno::AGAIN) => break,
                    // There was no room for some answer; those before it are still to be read.
                    Err(Errno::NOBUFS | Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                };
                if let Some((it, _)) = first_message(&self.buffer[..length])
                    && it.kind == SOCK_DIAG_BY_FAMILY
                {
                    take(it.body);
                }
            }
        }
        Ok(())
    }
}

/// What the kernel's last word means: 0 or more where all was told as `ending` says. It has no such table where its diag
/// module is not there (ENOENT), where it doesn't know the family or protocol (EINVAL), and where that can't be dumped
/// (EOPNOTSUPP).
fn ended(body: &[u8], ending: Dumped) -> io::Result<Dumped> {
    match bytes_at(body, 0).map_or(0, i32::from_ne_bytes) {
        0.. => Ok(ending),
        code => match Errno::from_raw_os_error(code.wrapping_neg()) {
            Errno::NOENT | Errno::INVAL | Errno::OPNOTSUPP => Ok(Dumped::NoTable),
            error => Err(error.into()),
        },
    }
}

/// A message of the kernel's.
struct Message<'a> {
    kind: u16,
    flags: u16,
    body: &'a [u8],
}

/// A `struct nlmsghdr` and what it asks for.
fn message(flags: u16, request: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(16 + request.len());
    message.extend((16 + request.len() as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0u8; 8]);
    message.extend(request);
    message
}

/// The first message of what the kernel sent, and what follows it.
fn first_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let size = bytes_at(bytes, 0).map(u32::from_ne_bytes)? as usize;
    let message = Message {
        kind: bytes_at(bytes, 4).map(u16::from_ne_bytes)?,
        flags: bytes_at(bytes, 6).map(u16::from_ne_bytes)?,
        body: bytes.get(16..size.min(bytes.len()))?,
    };
    Some((message, bytes.get(size.next_multiple_of(4)..).unwrap_or_default()))
}

/// The `struct nlattr`s of a message: type and value.
pub(super) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes_at(rest, 0)?));
        let kind = u16::from_ne_bytes(bytes_at(rest, 2)?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number's bytes at an offset; `None` past the end.
pub(super) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_cut_is_none() {
        assert_eq!(attributes(&[9, 0, 0, 0, 1]).count(), 0);
        assert!(first_message(&[200, 0, 0, 0, 20, 0]).is_none());
        assert!(first_message(&[200, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0]).is_none());
    }

    #[test]
    fn a_table_that_the_kernel_lacks_is_no_error_and_the_socket_stays_usable() {
        let mut netlink = Netlink::open().expect("opens");
        // A family without sockets to dump, and an internet protocol that nobody registers.
        let mut request = [0u8; 56];
        for (family, protocol) in [(45, 0), (2, 253)] {
            (request[0], request[1]) = (family, protocol);
            assert_eq!(netlink.dump(&request, |_| panic!("a row")).expect("is answered"), Dumped::NoTable);
        }
        (request[0], request[1]) = (2, 6);
        request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(netlink.dump(&request, |_| {}).expect("is answered"), Dumped::Complete);
    }
}
