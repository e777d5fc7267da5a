//! What was said on a connection, from the first bytes of what was written to it last.
//!
//! Which protocol it is follows from the bytes; the peer's port only decides where several fit.
//!
//! | file | what it reads |
//! |---|---|
//! | `postgres`, `mysql` | statements, also of what was prepared before |
//! | `redis`, `http` | commands; requests |
//! | `raw` | anything else: text, or bytes |
//! | `sql`, `useful` | SQL without its literals; which of it says what the connection is for |

mod bytes;
mod http;
mod mysql;
mod postgres;
mod raw;
mod redis;
mod sql;
mod useful;

use crate::model::{Address, Message, Timestamp};

/// One write to a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a> {
    /// When.
    pub at: Timestamp,
    /// How many bytes were written.
    pub length: u64,
    /// The first of them.
    pub bytes: &'a [u8],
    /// True where the bytes are known to be encrypted.
    pub encrypted: bool,
}

/// The writes of a connection that prepared statements, oldest first; those that are still among its last writes too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prepared<'a> {
    /// The first bytes of each.
    pub writes: &'a [Vec<u8>],
    /// True where none is missing, from the connection's first moment on: MySQL numbers statements by their order.
    pub is_whole: bool,
}

/// The most that is told of one write.
const SAID_MAX: usize = 8;

/// What was said, oldest first. Literals are masked unless `show_literals`; passwords always are.
pub(super) fn decode(
    written: &[Written],
    prepared: Prepared,
    peer: Option<&Address>,
    show_literals: bool,
) -> Vec<Message> {
    let mut protocols = protocols(prepared, show_literals);
    if let Some(hinted) = peer.and_then(hinted) {
        protocols.swap(0, hinted);
    }
    let read = |mut protocol: Box<dyn Protocol + '_>| -> Vec<Option<Vec<Said>>> {
        written.iter().map(|write| (!is_encrypted(write)).then(|| protocol.read(write)).flatten()).collect()
    };
    let understood = |said: &Vec<Option<Vec<Said>>>| said.iter().flatten().count();
    // Of equal ones the first, so that the hint holds.
    let best = protocols.into_iter().map(read).rev().max_by_key(understood).unwrap_or_default();
    let is_known = understood(&best) > 0;
    let said = written.iter().zip(best).map(|(write, said)| match said {
        _ if is_encrypted(write) => vec![Said::idle(format!("(encrypted, {} bytes)", write.length))],
        Some(said) => said,
        // In a known protocol, the rest of a message whose beginning came before.
        None if is_known => vec![Said::idle(format!("({} bytes of data)", write.length))],
        None => vec![raw::read(write, show_literals)],
    });
    let messages = written.iter().zip(said).flat_map(|(write, mut said)| {
        if said.len() > SAID_MAX {
            said.truncate(SAID_MAX);
            said.push(Said::idle("(and more in the same write)"));
        }
        said.into_iter().map(|said| Message { at: write.at, text: said.text.into(), useful: said.is_useful })
    });
    messages.collect()
}

/// What one message says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    text: String,
    is_useful: bool,
}

impl Said {
    fn new(text: impl Into<String>, is_useful: bool) -> Self {
        Said { text: text.into(), is_useful }
    }

    /// What says nothing of the purpose.
    fn idle(text: impl Into<String>) -> Self {
        Said::new(text, false)
    }
}

/// A protocol on one connection: writes come in order, for a later one may speak of an earlier.
trait Protocol {
    /// What a write says; `None` where it isn't of this protocol, or begins in the middle of a message.
    fn read(&mut self, write: &Written) -> Option<Vec<Said>>;
}

/// The order of those that are tried. Of two that understand as much the first counts; the strictest is first.
fn protocols(prepared: Prepared<'_>, show_literals: bool) -> Vec<Box<dyn Protocol + '_>> {
    vec![
        Box::new(postgres::Postgres::new(prepared, show_literals)),
        Box::new(mysql::MySql::new(prepared, show_literals)),
        Box::new(redis::Redis { show_literals }),
        Box::new(http::Http::new(show_literals)),
    ]
}

/// Which of [`protocols`] is usual where a peer listens.
fn hinted(peer: &Address) -> Option<usize> {
    let usual = match peer {
        Address::Inet(address) => match address.port() {
            5432 | 6432 => Some(0),
            3306 | 3307 => Some(1),
            6379 | 26379 => Some(2),
            80 | 3000 | 8000 | 8080 => Some(3),
            _ => None,
        },
        Address::Unix(path) => ["PGSQL", "mysql", "redis", "http"].iter().position(|name| path.contains(name)),
    };
    usual.or_else(|| matches!(peer, Address::Unix(path) if path.contains("maria")).then_some(1))
}

/// True where it was said to be, or begins with the header of a TLS record.
fn is_encrypted(write: &Written) -> bool {
    let record = |kind: u8, minor: u8| (0x14..=0x17).contains(&kind) && minor <= 4;
    write.encrypted || matches!(write.bytes, [kind, 3, minor, high, _, ..] if record(*kind, *minor) && *high <= 0x48)
}

#[cfg(test)]
mod tests;
