//! The last look: what processes held as they ended. It tells what was closed before the end from what was left, and sees
//! what lived between two ticks.

use super::{Census, last_active};
use crate::model::{
    Ending, HeldAtEnd, Holder, Kind, Lifetime, LifetimeId, Population, ProcessKey, Snapshot, State, Tick,
};
use std::collections::HashSet;

impl Census {
    /// Takes in what ended since the tick before.
    pub(super) fn follow_endings(&mut self, snapshot: &Snapshot, population: &Population, tick: &mut Tick) {
        self.sees_endings = snapshot.sees_endings;
        for ending in &snapshot.endings {
            let made = ending.held.iter().filter(|it| !it.accepted);
            let addresses: HashSet<_> = made.filter_map(|it| it.resource.local.as_ref()).collect();
            for held in &ending.held {
                // Both ends within one process are its own plumbing, but for a client of a server of its own.
                let remote = held.resource.remote.as_ref();
                let is_plumbing = held.resource.kind == Kind::Tcp && remote.is_some_and(|it| addresses.contains(it));
                self.leave(ending, held, is_plumbing, population, tick);
            }
        }
    }

    fn leave(
        &mut self,
        ending: &Ending,
        held: &HeldAtEnd,
        is_plumbing: bool,
        population: &Population,
        tick: &mut Tick,
    ) {
        let identity = held.resource.identity;
        let known = self.open.get(&identity).and_then(|id| population.open.get(id));
        // What came later than the process was not inherited by it.
        let is_younger = |it: &Lifetime| it.opened_after.is_some_and(|after| after >= ending.process.started);
        let opened_by_it = held.opened_by_it || known.is_some_and(is_younger);
        if ending.killed {
            if known.is_some() {
                self.killed.insert(identity);
            }
            return;
        }
        // A peer that has closed may have done so just now.
        let is_unread = |it: &Lifetime| {
            it.resource.state == Some(State::CloseWait) && ending.at.seconds_since(it.last_seen) >= CLOSE_WAIT_SECONDS
        };
        let is_theirs = held.accepted && !known.is_some_and(is_unread);
        if is_plumbing || is_theirs || self.inherited.contains(&identity) {
            return;
        }
        if known.is_some() || held.shared {
            if opened_by_it {
                self.left.insert(identity);
            }
        } else if (opened_by_it || self.left.contains(&identity)) && self.ended.len() < super::LEFT_OPEN_MAX {
            let lifetime = self.left_unseen(ending, held, tick);
            self.ended.push(lifetime.id);
            tick.opened.push(lifetime);
        }
    }

    /// The lifetime of what no tick has seen open.
    fn left_unseen(&mut self, ending: &Ending, held: &HeldAtEnd, tick: &mut Tick) -> Lifetime {
        let id = LifetimeId(self.next_lifetime);
        self.next_lifetime += 1;
        let process = self.key_of_ended(ending, tick);
        Lifetime {
            id,
            holders: vec![Holder { process, fd: held.fd, access: held.access }],
            accepted_by: None,
            opened_after: self.last_at,
            opened: self.last_at.map_or(ending.at, |last| last.max(ending.process.started)).min(ending.at),
            opened_exact: false,
            last_seen: ending.at,
            last_active: last_active(&held.resource, ending.at),
            closed: None,
            ended_with_process: true,
            opener: None,
            last_use: None,
            resource: held.resource.clone(),
        }
    }

    /// The number of a process that has ended; a new one where no tick has read it.
    fn key_of_ended(&mut self, ending: &Ending, tick: &mut Tick) -> ProcessKey {
        let id = &ending.process.id;
        let known = self.processes.get(id).copied();
        if let Some(key) = known
            && self.running.get(&key).is_some_and(|before| before.name != ending.process.name)
        {
            // It has become another program since the last tick.
            tick.started.push((key, ending.process.clone()));
        }
        let ended = tick.started.iter().find(|(_, process)| process.id == *id).map(|(key, _)| *key);
        known.or(ended).unwrap_or_else(|| {
            let key = ProcessKey(self.next_process);
            self.next_process += 1;
            let mut process = ending.process.clone();
            process.ended = Some(ending.at);
            tick.started.push((key, process));
            key
        })
    }
}

/// What others have closed to a process is its to close after so long.
const CLOSE_WAIT_SECONDS: f64 = 2.0;
