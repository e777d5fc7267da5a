//! A recording whose disk may be full: ticks that it refused wait in memory and are written, in order, when there is room.

use super::error::StoreError;
use super::gone::Gone;
use super::writer::{NOTES_MAX, Writer};
use crate::model::{
    Gap, LastUse, Lifetime, LifetimeId, Stack, StackKey, Tallies, Tick, Timestamp, Usage, VerdictChange,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;

/// Ticks that wait at most: a day at 5 s.
const WAITING_MAX: usize = if cfg!(test) { 1_728 } else { 17_280 };

/// Lifetimes that the waiting ticks hold at most: at half a kilobyte each some 100 MB, which a service that opens and
/// closes hundreds a second would fill in minutes.
const LIFETIMES_MAX: usize = if cfg!(test) { 60_000 } else { 200_000 };

/// The share of the waiting ticks, the oldest, that are made one where too many wait: one in so many. Joining a few at a
/// time keeps it cheap.
const JOINED_SHARE: usize = 16;

/// Ticks that are written at once when there is room again, so that catching up doesn't delay the next one.
const CATCH_UP: usize = 512;

/// A writer with what it still owes.
#[derive(Debug)]
pub struct Backlog {
    writer: Writer,
    waiting: VecDeque<Owed>,
    /// The lifetimes that these hold.
    lifetimes: usize,
    /// Ticks whose values and gaps were given up because more waited than may. All else of them is kept.
    pub dropped: u64,
    failing: bool,
}

/// A tick that waits, or several that were made one.
#[derive(Debug)]
struct Owed {
    tick: Tick,
    verdicts: Vec<VerdictChange>,
    /// Counted when the tick came, so that lifetimes may be left out of it later.
    tallies: Tallies,
    /// The first tick whose values were given up.
    lost_since: Option<Timestamp>,
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
        Backlog { writer, waiting: VecDeque::new(), lifetimes: 0, dropped: 0, failing: false }
    }

    /// Writes a tick, after those that wait.
    pub fn append(&mut self, tick: Tick, verdict: Option<VerdictChange>) -> Written {
        let tallies = self.writer.tallies(&tick);
        let owed = Owed { tick, verdicts: verdict.into_iter().collect(), tallies, lost_since: None };
        self.lifetimes += owed.lifetimes();
        self.waiting.push_back(owed);
        for _ in 0..CATCH_UP {
            match self.write_oldest() {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    self.bound();
                    let first = !std::mem::replace(&mut self.failing, true);
                    return if first { Written::BeginsToWait(error) } else { Written::Waits };
                }
                None => break,
            }
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

    /// Writes what waits until nothing does, or until the recording refuses: the end of a watch. The verdicts are what is said
    /// then, where that is something else than before; the rest is what was learned after the last tick.
    ///
    /// # Errors
    /// Where nothing waits and these can't be written.
    pub fn drain(
        &mut self,
        verdicts: Vec<VerdictChange>,
        used: Vec<Usage>,
        stacks: Vec<(StackKey, Stack)>,
    ) -> Result<(), StoreError> {
        match self.waiting.back_mut() {
            Some(last) => {
                self.lifetimes += used.len();
                last.verdicts.extend(verdicts);
                last.tick.used.extend(used);
                last.tick.stacks.extend(stacks);
            }
            None => self.writer.append_late(&verdicts, &used, &stacks)?,
        }
        while let Some(Ok(())) = self.write_oldest() {}
        Ok(())
    }

    /// Writes the oldest tick that waits; `None` where none does.
    fn write_oldest(&mut self) -> Option<Result<(), StoreError>> {
        let Owed { tick, verdicts, tallies, .. } = self.waiting.front()?;
        let written = self.writer.write(tick, verdicts, tallies);
        if written.is_ok() {
            self.lifetimes -= self.waiting.pop_front().map_or(0, |owed| owed.lifetimes());
        }
        Some(written)
    }

    /// Makes one tick of the oldest ones until no more waits than may.
    fn bound(&mut self) {
        while self.waiting.len() > 1 && (self.waiting.len() > WAITING_MAX || self.lifetimes > LIFETIMES_MAX) {
            let count = (self.waiting.len() / JOINED_SHARE).max(2);
            let mut oldest = self.waiting.drain(..count);
            let Some(mut joined) = oldest.next() else { break };
            oldest.for_each(|next| joined.join(next));
            joined.forget_what_is_gone();
            self.dropped += count as u64 - 1;
            self.waiting.push_front(joined);
            self.lifetimes = self.waiting.iter().map(Owed::lifetimes).sum();
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

impl Owed {
    fn lifetimes(&self) -> usize {
        let Tick { opened, changed, traffic, used, closed, .. } = &self.tick;
        opened.len() + changed.len() + traffic.len() + used.len() + closed.len()
    }

    /// Takes the next tick in: only the values and gaps of the earlier one are lost, and that is told as a gap.
    fn join(&mut self, next: Owed) {
        let lost_since = *self.lost_since.get_or_insert(self.tick.at);
        let Tick {
            at,
            started,
            ended,
            added,
            values,
            opened,
            mut changed,
            traffic,
            used,
            closed,
            stacks,
            gaps,
            limits,
            events,
            notes,
            cost,
            every,
            command,
        } = next.tick;
        let tick = &mut self.tick;
        // What it had carried before is told again, by either list.
        let again = changed.iter().map(|it| it.id).chain(traffic.iter().map(|it| it.id));
        let again: HashSet<LifetimeId> = again.collect();
        tick.traffic.retain(|it| !again.contains(&it.id));
        tick.traffic.extend(traffic);
        tick.at = at;
        tick.started.extend(started);
        tick.ended.extend(ended);
        tick.added.extend(added);
        tick.values = values;
        tick.used = joined_uses(std::mem::take(&mut tick.used), &mut changed, used);
        tick.opened.extend(opened);
        tick.changed.extend(changed);
        tick.closed.extend(closed);
        tick.stacks.extend(stacks);
        let reason = "the recording could not be written for too long".to_owned();
        tick.gaps = gaps;
        tick.gaps.push(Gap { from: lost_since, to: at, series: None, reason });
        tick.limits.retain(|old| limits.iter().all(|new| (&new.name, &new.series) != (&old.name, &old.series)));
        tick.limits.extend(limits);
        tick.events.extend(events);
        tick.notes.extend(notes);
        tick.cost = cost.or(tick.cost);
        tick.every = every.or(tick.every);
        tick.command = command.or(tick.command.take());
        self.verdicts.extend(next.verdicts);
        self.tallies.add(next.tallies);
    }

    /// Leaves out what writing the tick would put in and take out again: earlier states of what has changed since, and
    /// lifetimes that were opened and are gone. Tallies count them all the same.
    fn forget_what_is_gone(&mut self) {
        let tick = &mut self.tick;
        let mut seen = HashSet::new();
        let mut changed = std::mem::take(&mut tick.changed);
        changed.reverse();
        changed.retain(|lifetime| seen.insert(lifetime.id));
        changed.reverse();
        let gone = Gone::of(tick);
        changed.retain(|lifetime| !gone.has(lifetime.id));
        tick.changed = changed;
        tick.traffic.retain(|traffic| !gone.has(traffic.id));
        tick.used.retain(|usage| !gone.has(usage.id));
        tick.opened.retain(|lifetime| !gone.has(lifetime.id));
        for closing in &mut tick.closed {
            closing.kept &= !gone.has(closing.lifetime.id);
            // A row that never was needs not be taken out; another that it replaces is still to go.
            closing.evicted = closing.evicted.filter(|id| !gone.is_unwritten(*id));
        }
        tick.closed.retain(|closing| closing.evicted.is_some() || !gone.is_unwritten(closing.lifetime.id));
        let mut known = HashSet::new();
        tick.notes.retain(|note| known.insert(note.clone()));
        // The writer keeps no more, and one further note makes it say so.
        tick.notes.truncate(NOTES_MAX + 1);
    }
}

/// The last uses that two ticks tell, one of each lifetime. Where the later one tells of it among what has changed, it is
/// put there, for these are written first.
fn joined_uses(earlier: Vec<Usage>, changed: &mut [Lifetime], later: Vec<Usage>) -> Vec<Usage> {
    let mut known: HashMap<LifetimeId, Box<LastUse>> =
        earlier.into_iter().map(|usage| (usage.id, Box::new(usage.last))).collect();
    for lifetime in changed {
        if let Some(earlier) = known.remove(&lifetime.id) {
            lifetime.last_use = LastUse::following(Some(earlier), lifetime.last_use.take());
        }
    }
    for usage in later {
        let last = LastUse::following(known.remove(&usage.id), Some(Box::new(usage.last)));
        known.extend(last.map(|last| (usage.id, last)));
    }
    known.into_iter().map(|(id, last)| Usage { id, last: *last }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Activity, Event, EventKind, Message, Population, ProcessKey, Traffic, Use};
    use crate::store::tests::{at, named, open, tick};
    use crate::store::{Recording, Retention};
    use std::time::Duration;

    fn backlog(folder: &Path) -> Backlog {
        let path = folder.join("r.unclosed");
        Backlog::new(Writer::create(&path, Duration::from_secs(1), "test", Retention::default()).expect("created"))
    }

    fn end(backlog: &mut Backlog, verdict: Option<VerdictChange>) -> Result<(), StoreError> {
        backlog.drain(verdict.into_iter().collect(), Vec::new(), Vec::new())
    }

    #[test]
    fn what_waits_at_the_end_is_written_when_there_is_room_again() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let mut backlog = backlog(folder.path());
        backlog.writer.refuse(true);
        assert!(matches!(backlog.append(named(tick(0, 0.0)), None), Written::BeginsToWait(_)));
        for second in 1..1_500 {
            assert!(matches!(backlog.append(tick(second, 1.0), None), Written::Waits));
        }
        end(&mut backlog, None).expect("nothing to say");
        assert_eq!((backlog.owed(), backlog.dropped), (1_500, 0));
        backlog.writer.refuse(false);
        end(&mut backlog, None).expect("nothing to say");
        assert_eq!(backlog.owed(), 0);
        let facts = Recording::open(backlog.path()).and_then(|it| it.facts()).expect("reads");
        assert_eq!((facts.from, facts.to, facts.ticks), (at(0), at(1_499), 1_500));
    }

    #[test]
    fn what_is_learned_last_is_written_too() {
        let used = |text: &str| {
            let by = Use { stack: Some(StackKey(9)), thread: "t".into(), tid: 1, at: at(0) };
            let messages = vec![Message { at: at(0), text: text.into(), useful: true }];
            vec![Usage { id: LifetimeId(1), last: LastUse { by, messages, whereabouts: None } }]
        };
        for waits in [false, true] {
            let folder = tempfile::tempdir().expect("a scratch folder");
            let mut backlog = backlog(folder.path());
            backlog.writer.refuse(waits);
            backlog.append(Tick { opened: vec![open(1, 0)], ..named(tick(0, 0.0)) }, None);
            backlog.writer.refuse(false);
            backlog.drain(Vec::new(), used("GET a"), vec![(StackKey(9), Stack::default())]).expect("written");
            let recording = Recording::open(backlog.path()).expect("opens");
            let population = recording.population().expect("reads");
            let last = population.open[&LifetimeId(1)].last_use.as_deref().and_then(LastUse::last_useful);
            assert_eq!(last.map(|message| &*message.text), Some("GET a"));
            assert!(recording.facts().expect("reads").stacks.contains_key(&StackKey(9)));
        }
    }

    #[test]
    fn the_last_verdict_is_written_after_all_ticks() {
        use crate::model::Verdict::{Clean, Leak};
        let folder = tempfile::tempdir().expect("a scratch folder");
        let mut backlog = backlog(folder.path());
        let change = |second, kind| Some(VerdictChange { at: at(second), kind, sentence: "so".into() });
        backlog.append(named(tick(0, 0.0)), None);
        end(&mut backlog, change(0, Clean)).expect("written");
        // One that has to wait, as the tick before it does.
        backlog.writer.refuse(true);
        backlog.append(tick(1, 1.0), None);
        end(&mut backlog, change(1, Leak)).expect("it waits");
        backlog.writer.refuse(false);
        end(&mut backlog, None).expect("nothing more");
        backlog.writer.refuse(true);
        assert!(end(&mut backlog, change(2, Clean)).is_err());
        let facts = Recording::open(backlog.path()).and_then(|it| it.facts()).expect("reads");
        let said: Vec<_> = facts.history.iter().map(|change| (change.at, change.kind)).collect();
        assert_eq!(said, [(at(0), Clean), (at(1), Leak)]);
    }

    #[test]
    fn of_too_many_ticks_only_the_values_are_lost() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let mut backlog = backlog(folder.path());
        backlog.writer.refuse(true);
        backlog.append(named(tick(0, 0.0)), None);
        for second in 1..2_500 {
            let ends = Event { at: at(second), process: Some(ProcessKey(1)), kind: EventKind::Ended, text: "".into() };
            let mut tick = tick(second, second as f64);
            tick.events.extend((second % 100 == 0).then_some(ends));
            tick.notes.push(format!("note {}", second % 7));
            backlog.append(tick, None);
            assert!(backlog.waiting.len() <= WAITING_MAX);
        }
        assert_eq!(backlog.owed(), 2_500);
        backlog.writer.refuse(false);
        end(&mut backlog, None).expect("nothing to say");
        let recording = Recording::open(backlog.path()).expect("opens");
        let facts = recording.facts().expect("reads");
        assert_eq!((facts.to, facts.ticks), (at(2_499), 2_500 - backlog.dropped));
        assert_eq!((facts.events.len(), facts.notes.len(), facts.gaps.len()), (24, 7, 1));
        assert_eq!((facts.gaps[0].from, facts.gaps[0].to), (at(0), facts.from));
        assert_eq!(recording.series().expect("reads").len(), 1);
    }

    #[test]
    fn lifetimes_are_bounded_and_end_up_right() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let mut backlog = backlog(folder.path());
        let mut population = Population::default();
        let mut id = 0;
        for second in 0..400 {
            // Written before it refuses, so that some changes and closings are of rows that are there.
            backlog.writer.refuse(second > 5);
            let changed = |(nth, lifetime): (usize, &Lifetime)| Lifetime {
                accepted_by: Some(format!("0.0.0.0:{}", nth % 9)),
                last_seen: at(second),
                ..lifetime.clone()
            };
            let gone = |lifetime: &Lifetime| match lifetime.ended_with_process {
                // Every eleventh ends with its process, and is forgotten later.
                false if lifetime.id.0.is_multiple_of(11) => Lifetime { ended_with_process: true, ..lifetime.clone() },
                _ => Lifetime { closed: Some(at(second)), ..lifetime.clone() },
            };
            let alive = population.open.values().filter(|it| !it.ended_with_process);
            let mut tick =
                Tick { changed: alive.enumerate().skip(70).step_by(7).map(changed).collect(), ..tick(second, 1.0) };
            let carried = |lifetime: &Lifetime| {
                let activity = Activity { bytes_sent: Some(second as u64), ..Activity::default() };
                Traffic { id: lifetime.id, activity, last_active: Some(at(second)) }
            };
            tick.traffic = population.open.values().skip(75).step_by(5).map(carried).collect();
            let used = |lifetime: &Lifetime| {
                let by = Use { stack: None, thread: "t".into(), tid: 1, at: at(second - second % 2) };
                let text = format!("{second}").into();
                let message = Message { at: at(second), text, useful: true };
                // Every other time it is the same use, of which nothing was said.
                let messages = if second % 2 == 0 { vec![message] } else { Vec::new() };
                Usage { id: lifetime.id, last: LastUse { by, messages, whereabouts: None } }
            };
            tick.used = population.open.values().skip(72).step_by(9).map(used).collect();
            tick.closed = population.close(population.open.values().take(70).map(gone).collect());
            tick.opened = (0..80).map(|nth| open(id + nth, second)).collect();
            id += 80;
            population.apply(&tick);
            backlog.append(tick, None);
            assert!(backlog.lifetimes <= LIFETIMES_MAX);
        }
        assert!(backlog.dropped > 0);
        backlog.writer.refuse(false);
        end(&mut backlog, None).expect("nothing to say");
        let recorded = Recording::open(backlog.path()).and_then(|it| it.population()).expect("reads");
        assert_eq!(recorded.tallies, population.tallies);
        assert_eq!(recorded.closed_total, population.closed_total);
        assert!(recorded.closed.keys().eq(population.closed.keys()));
        let told = |it: &Population| -> Vec<_> {
            let told = |it: &Lifetime| {
                (
                    it.id,
                    it.accepted_by.clone(),
                    it.last_seen,
                    it.ended_with_process,
                    it.last_active,
                    it.resource.activity,
                    it.last_use.clone(),
                )
            };
            it.open.values().map(told).collect()
        };
        assert_eq!(told(&recorded), told(&population));
        assert!(population.open.values().any(|it| it.last_use.as_ref().is_some_and(|last| !last.messages.is_empty())));
    }
}
