//! What a tick would put into the recording and take out again.

use crate::model::{LifetimeId, Tick};
use std::collections::HashSet;

/// Lifetimes that no row is left of after a tick: closed and not kept, or replaced in the sample.
#[derive(Debug)]
pub(super) struct Gone {
    all: HashSet<LifetimeId>,
    /// Those that were opened in that very tick: no row of theirs is there.
    unwritten: HashSet<LifetimeId>,
}

impl Gone {
    pub(super) fn of(tick: &Tick) -> Self {
        let mut all = HashSet::new();
        for closing in &tick.closed {
            all.extend(closing.evicted);
            if !closing.kept {
                all.insert(closing.lifetime.id);
            }
        }
        let unwritten = tick.opened.iter().map(|lifetime| lifetime.id).filter(|id| all.contains(id)).collect();
        Gone { all, unwritten }
    }

    pub(super) fn has(&self, id: LifetimeId) -> bool {
        self.all.contains(&id)
    }

    /// True of one that needs no deleting.
    pub(super) fn is_unwritten(&self, id: LifetimeId) -> bool {
        self.unwritten.contains(&id)
    }

    /// Those of which the recording has a row.
    pub(super) fn written(&self) -> impl Iterator<Item = LifetimeId> {
        self.all.difference(&self.unwritten).copied()
    }
}
