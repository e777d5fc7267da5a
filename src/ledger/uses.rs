//! Who used what is open last, and what was said.

use super::message::{self, Prepared, Written};
use super::records::{self, SocketUse, USE_BYTES, Write};
use super::{Known, Ledger, Threads};
use crate::model::{Address, Identity, LastUse, Message, Snapshot, Whereabouts};
use std::collections::HashSet;

/// Connections under no suspicion that are asked for at a tick, by turns.
const BY_TURNS: usize = 256;

/// What is needed to tell what was said on a connection.
#[derive(Debug)]
pub(super) struct Said<'a> {
    pub object: u64,
    pub inode: u64,
    /// How many writes prepared statements.
    pub prepared: u32,
    /// True where it was seen from its beginning.
    pub is_whole: bool,
    pub writes: &'a [Write],
    pub peer: Option<&'a Address>,
}

impl Ledger {
    /// Adds who used some of what is open last, by turns.
    pub(super) fn add_uses(&mut self, snapshot: &mut Snapshot) {
        if self.turns.is_empty() {
            self.turns = self.known.values().filter(|known| known.is_socket).map(|known| known.identity).collect();
        }
        let asked: Vec<Identity> = self.turns.drain(..BY_TURNS.min(self.turns.len())).collect();
        for known in asked.iter().filter_map(|identity| self.known.get(identity).cloned()).collect::<Vec<_>>() {
            snapshot.used.extend(self.last_use(&known, None).map(|last| (known.identity, last)));
        }
    }

    /// What is new of these, with what was said.
    pub(super) fn uses_of(&mut self, suspects: &HashSet<Identity>) -> Vec<(Identity, LastUse)> {
        let known: Vec<Known> = suspects.iter().filter_map(|identity| self.known.get(identity)).cloned().collect();
        let mut threads = Threads::default();
        let mut ask = |known: Known| Some((known.identity, self.last_use(&known, Some(&mut threads))?));
        known.into_iter().filter_map(&mut ask).collect()
    }

    /// The last use of a socket, where that is news. Where its last user is now only with `threads`.
    fn last_use(&mut self, known: &Known, threads: Option<&mut Threads>) -> Option<LastUse> {
        let is_suspect = threads.is_some() || known.told.is_some_and(|(_, is_suspect)| is_suspect);
        let bytes = self.hooks.uses.get::<u64, USE_BYTES>(&known.object).ok()?;
        let found = SocketUse::new(&bytes);
        if found.inode != known.inode || found.by.at == 0 {
            return None;
        }
        let now = threads.and_then(|threads| self.whereabouts(found.by, threads));
        let has_moved = now.as_ref().is_some_and(|now| !known.whereabouts.as_ref().is_some_and(|it| is_same(it, now)));
        let told = (found.by.at, is_suspect);
        if known.told == Some(told) && !has_moved {
            return None;
        }
        let said = Said {
            object: known.object,
            inode: known.inode,
            prepared: found.prepared,
            is_whole: known.is_whole,
            writes: if is_suspect { &found.writes } else { &[] },
            peer: known.peer.as_ref(),
        };
        let messages = self.messages(&said);
        let known = self.known.get_mut(&known.identity)?;
        known.told = Some(told);
        known.whereabouts.clone_from(&now);
        Some(LastUse { by: self.by(found.by), messages, whereabouts: now })
    }

    /// What was said, in words. The connection was seen from its beginning where its opening was.
    pub(super) fn messages(&self, of: &Said<'_>) -> Vec<Message> {
        let first = of.prepared.saturating_sub(records::PREPARED_MAX);
        let kept = (first..of.prepared).filter_map(|number| {
            let key = [of.object, u64::from(number % records::PREPARED_MAX)];
            records::prepared(&self.hooks.prepared.get(&key).ok()?, of.inode)
        });
        let kept: Vec<Vec<u8>> = if of.writes.is_empty() { Vec::new() } else { kept.collect() };
        let prepared = Prepared { is_whole: of.is_whole && kept.len() == of.prepared as usize, writes: &kept };
        let written = of.writes.iter().map(|write| Written {
            at: self.clock.moment(write.at),
            length: u64::from(write.length),
            bytes: &write.bytes,
            encrypted: write.is_encrypted,
        });
        message::decode(&written.collect::<Vec<_>>(), prepared, of.peer, self.options.show_literals)
    }
}

/// True where a thread has not moved from one moment to the other.
fn is_same(before: &Whereabouts, now: &Whereabouts) -> bool {
    (before.stack, &before.words) == (now.stack, &now.words)
}
