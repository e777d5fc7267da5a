//! A recording whose disk may be full: ticks that it refused wait in memory and are written, in order, when there is room.

use super::error::StoreError;
use super::writer::Writer;
use crate::model::{Tick, VerdictChange};
use std::collections::VecDeque;
use std::path::Path;

/// Ticks that wait at most: a day at 5 s.
const WAITING_MAX: usize = 17_280;

/// Ticks that are written at once when there is room again, so that catching up doesn't delay the next one.
const CATCH_UP: usize = 512;

/// A writer with what it still owes.
#[derive(Debug)]
pub struct Backlog {
    writer: Writer,
    waiting: VecDeque<(Tick, Option<VerdictChange>)>,
    /// Ticks that were given up because more waited than may.
    pub dropped: u64,
    failing: bool,
}

/// What became of a tick.
#[derive(Debug)]
pub enum Written {
    /// It is in the recording, and so is everything before it.
    Yes,
    /// It waits, as others before it do.
    Waits,
    /// It waits, the first one to do so: this is why.
    BeginsToWait(StoreError),
    /// It is in the recording, and nothing waits any more.
    CaughtUp,
}

impl Backlog {
    /// Nothing waits yet.
    pub fn new(writer: Writer) -> Self {
        Backlog { writer, waiting: VecDeque::new(), dropped: 0, failing: false }
    }

    /// Writes a tick, after those that wait.
    pub fn append(&mut self, tick: Tick, verdict: Option<VerdictChange>) -> Written {
        self.waiting.push_back((tick, verdict));
        for _ in 0..CATCH_UP {
            let Some((tick, verdict)) = self.waiting.front() else { break };
            match self.writer.append(tick, verdict.as_ref()) {
                Ok(()) => self.waiting.pop_front(),
                Err(error) => {
                    if self.waiting.len() > WAITING_MAX {
                        self.waiting.pop_front();
                        self.dropped += 1;
                    }
                    let first = !std::mem::replace(&mut self.failing, true);
                    return if first { Written::BeginsToWait(error) } else { Written::Waits };
                }
            };
        }
        match (self.waiting.is_empty(), self.failing) {
            (false, _) => Written::Waits,
            (true, false) => Written::Yes,
            (true, true) => {
                self.failing = false;
                Written::CaughtUp
            }
        }
    }

    /// How many ticks are not in the recording.
    pub fn owed(&self) -> u64 {
        self.waiting.len() as u64 + self.dropped
    }

    /// Where the recording is.
    pub fn path(&self) -> &Path {
        self.writer.path()
    }

    /// The bytes it takes on disk.
    pub fn bytes(&self) -> u64 {
        self.writer.bytes()
    }
}
