//! Who holds what: what the processes of a target held at the read before, so that a read tells only what has changed.
//!
//! A reader lists every descriptor at every tick; what it lists is compared with the list before, number by number, and
//! only a difference touches a map. So a tick costs what has changed, beyond the listing itself.

use crate::model::{Access, Descriptor, Identity, ProcessId};
use std::collections::{HashMap, HashSet};

/// A descriptor as a reader saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    /// Its number.
    pub fd: i32,
    /// How it may be used.
    pub access: Option<Access>,
    /// What it refers to.
    pub identity: Identity,
    /// True where anything else of what it refers to is not as it was.
    pub news: bool,
}

/// What the processes of a target hold.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// By pid, in the order of the descriptors' numbers.
    held: HashMap<u32, (ProcessId, Vec<Seen>)>,
    holders: HashMap<Identity, Vec<Descriptor>>,
    touched: HashSet<Identity>,
    /// Nobody was seen to hold these at the read before.
    unheld: HashSet<Identity>,
    /// Let go by the end of their holder.
    ended: HashSet<Identity>,
}

/// What has changed since it was last asked.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    /// New, held by others than before, or with news. In the order of its numbers.
    pub touched: Vec<Identity>,
    /// Seen with nobody for the first time.
    pub unheld: Vec<Identity>,
    /// Held by nobody any more.
    pub gone: Vec<Identity>,
}

impl Holdings {
    /// Takes in what a process holds now: all of it, in the order of the numbers.
    pub(super) fn update(&mut self, process: &ProcessId, now: impl Iterator<Item = Seen>) {
        let (_, mut seen) = self.held.remove(&process.pid).unwrap_or_else(|| (process.clone(), Vec::new()));
        // Most ticks find what the tick before has found: then this loop is all there is to do.
        let mut kept = 0;
        let mut now = now.peekable();
        while let (Some(before), Some(next)) = (seen.get_mut(kept), now.peek())
            && (before.fd, before.identity, before.access) == (next.fd, next.identity, next.access)
        {
            if next.news {
                self.touched.insert(next.identity);
            }
            kept += 1;
            now.next();
        }
        let mut rest = seen.split_off(kept).into_iter().peekable();
        for next in now {
            while let Some(before) = rest.next_if(|before| before.fd < next.fd) {
                self.release(process, before);
            }
            match rest.next_if(|before| before.fd == next.fd) {
                Some(before) if (before.identity, before.access) == (next.identity, next.access) => {
                    if next.news {
                        self.touched.insert(next.identity);
                    }
                }
                Some(before) => {
                    self.hold(process, next);
                    self.release(process, before);
                }
                None => self.hold(process, next),
            }
            seen.push(next);
        }
        for before in rest {
            self.release(process, before);
        }
        self.held.insert(process.pid, (process.clone(), seen));
    }

    /// True of a process that could be read.
    pub(super) fn knows(&self, pid: u32) -> bool {
        self.held.contains_key(&pid)
    }

    /// Forgets a process that has ended, or that is the target's no more.
    pub(super) fn forget(&mut self, pid: u32) {
        if let Some((process, seen)) = self.held.remove(&pid) {
            for before in seen {
                self.ended.insert(before.identity);
                self.release(&process, before);
            }
        }
    }

    /// What has changed since the last call.
    pub(super) fn changes(&mut self) -> Changes {
        let mut touched: Vec<Identity> = self.touched.drain().collect();
        let before = std::mem::take(&mut self.unheld);
        let mut gone: Vec<Identity> = before.iter().copied().filter(|it| self.holders(*it).is_empty()).collect();
        let (lost, unheld): (Vec<Identity>, Vec<Identity>) = touched
            .extract_if(.., |it| self.holders.get(it).is_none_or(Vec::is_empty))
            .filter(|it| !before.contains(it))
            .partition(|it| self.ended.contains(it));
        gone.extend(lost);
        self.unheld.extend(&unheld);
        self.ended.clear();
        // By the first descriptor, so that what is numbered is numbered alike in every run.
        touched.sort_by_cached_key(|identity| self.holders(*identity).first().map(|it| (it.process.pid, it.fd)));
        for identity in &gone {
            self.holders.remove(identity);
        }
        Changes { touched, unheld, gone }
    }

    /// Every descriptor that refers to it, in the order in which they were found.
    pub(super) fn holders(&self, identity: Identity) -> &[Descriptor] {
        self.holders.get(&identity).map_or(&[], Vec::as_slice)
    }

    fn hold(&mut self, process: &ProcessId, seen: Seen) {
        let holder = Descriptor { process: process.clone(), fd: seen.fd, access: seen.access };
        self.holders.entry(seen.identity).or_default().push(holder);
        self.touched.insert(seen.identity);
    }

    fn release(&mut self, process: &ProcessId, seen: Seen) {
        if let Some(holders) = self.holders.get_mut(&seen.identity) {
            holders.retain(|holder| (&holder.process, holder.fd) != (process, seen.fd));
        }
        self.touched.insert(seen.identity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn process(pid: u32) -> ProcessId {
        ProcessId { boot_id: "boot".into(), pid, start_ticks: 1 }
    }

    fn seen(fd: i32, what: u64) -> Seen {
        Seen { fd, access: Some(Access::Both), identity: Identity(0, what), news: false }
    }

    fn numbers(identities: &[Identity]) -> Vec<u64> {
        identities.iter().map(|identity| identity.1).collect()
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let mut holdings = Holdings::default();
        let mut step = |list: &[Seen]| {
            holdings.update(&process(7), list.iter().copied());
            let changes = holdings.changes();
            (numbers(&changes.touched), numbers(&changes.unheld), numbers(&changes.gone))
        };
        assert_eq!(step(&[seen(3, 1), seen(4, 2)]), (vec![1, 2], vec![], vec![]));
        assert_eq!(step(&[seen(3, 1), seen(4, 2)]), (vec![], vec![], vec![]));
        assert_eq!(step(&[seen(3, 1), Seen { news: true, ..seen(4, 2) }]), (vec![2], vec![], vec![]));
        assert_eq!(step(&[seen(4, 2), seen(9, 3)]), (vec![3], vec![1], vec![]));
        // Moved to another number: the same resource, held otherwise.
        assert_eq!(step(&[seen(5, 2), seen(9, 3)]), (vec![2], vec![], vec![1]));
        // On its way from one number to another, and seen at neither.
        assert_eq!(step(&[seen(9, 3)]), (vec![], vec![2], vec![]));
        assert_eq!(step(&[seen(6, 2), seen(9, 3)]), (vec![2], vec![], vec![]));
    }

    #[test]
    fn what_two_processes_share_is_gone_when_both_have_let_go() {
        let mut holdings = Holdings::default();
        holdings.update(&process(7), [seen(3, 1)].into_iter());
        holdings.update(&process(8), [seen(3, 1), seen(4, 1)].into_iter());
        assert_eq!(numbers(&holdings.changes().touched), [1]);
        assert_eq!(holdings.holders(Identity(0, 1)).len(), 3);
        holdings.forget(7);
        assert_eq!(numbers(&holdings.changes().touched), [1]);
        holdings.forget(8);
        assert_eq!(numbers(&holdings.changes().gone), [1]);
        assert_eq!(holdings.changes(), Changes::default());
    }

    proptest! {
        #[test]
        fn the_changes_add_up_to_what_is_held(
            ticks in prop::collection::vec(prop::collection::vec((0..2u32, 0..8i32, 0..6u64), 0..12), 1..12)
        ) {
            let mut holdings = Holdings::default();
            let mut open: BTreeMap<u64, usize> = BTreeMap::new();
            for tick in ticks {
                let mut lists: BTreeMap<u32, BTreeMap<i32, u64>> = BTreeMap::new();
                for (pid, fd, what) in tick {
                    lists.entry(pid).or_default().insert(fd, what);
                }
                for pid in 0..2 {
                    match lists.get(&pid) {
                        Some(list) => holdings.update(&process(pid), list.iter().map(|(fd, what)| seen(*fd, *what))),
                        None => holdings.forget(pid),
                    }
                }
                let changes = holdings.changes();
                for identity in changes.touched {
                    open.insert(identity.1, holdings.holders(identity).len());
                }
                for identity in &changes.unheld {
                    prop_assert!(open.remove(&identity.1).is_some(), "it was held before");
                }
                for identity in &changes.gone {
                    prop_assert!(holdings.holders(*identity).is_empty());
                    open.remove(&identity.1);
                }
                let mut truth: BTreeMap<u64, usize> = BTreeMap::new();
                for what in lists.values().flat_map(BTreeMap::values) {
                    *truth.entry(*what).or_default() += 1;
                }
                prop_assert_eq!(&open, &truth);
            }
        }
    }
}
