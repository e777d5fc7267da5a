//! Who used what is open last, and what was said.

use super::records::{self, SocketUse, USE_BYTES, Write};
use super::{Known, Ledger};
use crate::model::{Address, Identity, LastUse, Message, Snapshot};
use std::collections::HashSet;

/// Connections under no suspicion that are asked for at a tick, by turns.
const BY_TURNS: usize = 256;

impl Ledger {
    /// Adds who used some of what is open last, by turns.
    pub(super) fn add_uses(&mut self, snapshot: &mut Snapshot) {
        if self.turns.is_empty() {
            self.turns = self.known.values().filter(|known| known.is_socket).map(|known| known.identity).collect();
        }
        let asked: Vec<Identity> = self.turns.drain(..BY_TURNS.min(self.turns.len())).collect();
        for known in asked.iter().filter_map(|identity| self.known.get(identity).copied()).collect::<Vec<_>>() {
            let has_messages = known.told.is_some_and(|(_, with_messages)| with_messages);
            snapshot.used.extend(self.last_use(known, has_messages).map(|last| (known.identity, last)));
        }
    }

    /// What is new of these, with what was said.
    pub(super) fn uses_of(&mut self, suspects: &HashSet<Identity>) -> Vec<(Identity, LastUse)> {
        let known: Vec<Known> = suspects.iter().filter_map(|identity| self.known.get(identity)).copied().collect();
        known.into_iter().filter_map(|known| Some((known.identity, self.last_use(known, true)?))).collect()
    }

    /// The last use of a socket, where that is news.
    fn last_use(&mut self, known: Known, is_suspect: bool) -> Option<LastUse> {
        let bytes = self.hooks.uses.get::<u64, USE_BYTES>(&known.object).ok()?;
        let found = SocketUse::new(&bytes);
        let told = (found.by.at, is_suspect);
        if found.inode != known.inode || found.by.at == 0 || known.told == Some(told) {
            return None;
        }
        self.known.get_mut(&known.identity)?.told = Some(told);
        let messages = if is_suspect {
            self.messages(known.object, known.inode, found.prepared, &found.writes, None)
        } else {
            Vec::new()
        };
        Some(LastUse { by: self.by(found.by), messages, whereabouts: None })
    }

    /// What was said, in words.
    pub(super) fn messages(
        &self,
        object: u64,
        inode: u64,
        prepared: u32,
        writes: &[Write],
        remote: Option<&Address>,
    ) -> Vec<Message> {
        if writes.is_empty() {
            return Vec::new();
        }
        let first = prepared.saturating_sub(records::PREPARED_MAX);
        let earlier = (first..prepared).filter_map(|number| {
            let key = [object, u64::from(number % records::PREPARED_MAX)];
            records::prepared(&self.hooks.prepared.get(&key).ok()?, inode)
        });
        let _ = (earlier.count(), remote);
        Vec::new()
    }
}
