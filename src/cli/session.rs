//! The one loop that runs a tick: sample, compare, record, judge, show.

use super::budget::Budget;
use super::error::Failure;
use super::on_leak::OnLeak;
use super::options::SamplingOptions;
use super::talk;
use super::wake::{Schedule, Wake};
use crate::analyse::{Census, Fold};
use crate::ledger::{Ledger, LedgerOptions};
use crate::model::{CommandRun, Event, EventKind, ProcessId, Report, SeriesKey, Snapshot, Tick, Timestamp};
use crate::present::live::Live;
use crate::sample::{ProcFs, Sampler, TargetProcesses, own_cost, own_readings};
use crate::store::{Backlog, StoreError, Writer, Written};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a tick of a process with 60 connections, of which a few change, takes in the recording, sealed; an idle process
/// takes less than 10. Measured by `benches/size.py`.
const RECORDED_BYTES_PER_TICK: f64 = 40.0;

/// Said of a command that has more processes than are followed.
const TOO_MANY: &str = "it had more processes at once than are followed";

/// Said of one whose processes can't all be read, as what runs as another user.
const CLOSED: &str = "the descriptors of some of its processes could not be read";

/// A watch under way.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) target: TargetProcesses,
    sampler: Sampler,
    pub(super) ledger: Option<Ledger>,
    openers: Option<String>,
    pub(super) census: Census,
    pub(super) fold: Fold,
    backlog: Option<Backlog>,
    pub(super) clock: Clock,
    shown: String,
    shown_key: Option<SeriesKey>,
    /// Without processes to follow the watch doesn't end with them.
    follows: bool,
    /// A process of the target ran at the last tick.
    runs: bool,
    messages: Vec<String>,
    /// What can't be seen, to be noted by the next tick.
    notes: Vec<String>,
    command: Option<CommandRun>,
    on_leak: Option<OnLeak>,
    budget: Budget,
}

impl Session {
    /// A watch of `target`, called `name`, into the recording where there is one. `shown` is the series that a live view
    /// plots or prints. A watch that `follows` processes ends with them, unless the target waits for more.
    pub(crate) fn new(
        options: &SamplingOptions,
        target: TargetProcesses,
        name: &str,
        follows: bool,
        recording: Option<Writer>,
        shown: &str,
    ) -> Result<Self, Failure> {
        let file = recording.as_ref().map(|writer| writer.path().display().to_string()).unwrap_or_default();
        let (ledger, why_none) = if follows { ledger(options, target.takes_children()) } else { (None, None) };
        Ok(Session {
            target,
            sampler: options.sampler(&ProcFs::system())?,
            openers: ledger.as_ref().map(|ledger| ledger.words().to_owned()).or_else(|| why_none.clone()),
            ledger,
            census: Census::new(options.every),
            fold: Fold::new(file, follows.then(|| name.to_owned()), options.every.as_secs_f64()),
            backlog: recording.map(Backlog::new),
            clock: Clock::start(),
            shown: shown.to_owned(),
            shown_key: None,
            follows,
            runs: false,
            messages: Vec::new(),
            notes: why_none.into_iter().collect(),
            command: None,
            budget: Budget::new(options.every, options.max_cost),
            on_leak: options.on_leak.clone().map(OnLeak::start),
        })
    }

    /// Makes the recording of a target called `name`.
    pub(crate) fn create_recording(file: &Path, options: &SamplingOptions, name: &str) -> Result<Writer, Failure> {
        Ok(Writer::create(file, options.every, name, options.retention)?)
    }

    /// A command is about to start that is judged at its end: takes its baseline. The next tick notes why, where its
    /// processes can't be seen at their ends.
    pub(crate) fn begin_command(&mut self, command: CommandRun) {
        self.census.begin_command(self.sampler.inherited());
        let begun = self.sampler.begin_last_look();
        if let Some(ledger) = &mut self.ledger {
            self.notes.extend(ledger.begin_command());
        }
        self.command = Some(CommandRun { has_last_look: begun.is_ok(), ..command });
        self.notes.extend(begun.err().map(|why| {
            format!(
                "what a process holds as it ends can't be seen, nor children that live between two ticks: {why}. `unclosed doctor` tells what it takes."
            )
        }));
    }

    /// It has been started.
    pub(crate) fn command_has_started(&mut self, pid: u32) {
        self.sampler.command_has_started();
        if let Some(ledger) = &mut self.ledger {
            ledger.command_has_started();
        }
        self.target.adopt(pid);
    }

    /// It has ended, before the tick that comes next.
    pub(crate) fn command_has_ended(&mut self) {
        if let Some(command) = self.fold.report().command.clone() {
            self.command = Some(CommandRun { ended: Some(Timestamp(i64::MAX)), ..command });
        }
    }

    /// Ticks until the target ends, a signal comes or the time is over.
    pub(crate) fn follow(&mut self, schedule: &mut Schedule, live: &mut dyn Live) -> Result<(), Failure> {
        loop {
            match schedule.wait() {
                Wake::Tick | Wake::Ended => {
                    if !self.tick(live)? {
                        return Ok(());
                    }
                    schedule.set_every(self.every());
                }
                Wake::Signal { .. } | Wake::Over => return Ok(()),
            }
        }
    }

    /// Takes one tick. False where the target has ended.
    pub(crate) fn tick(&mut self, live: &mut dyn Live) -> Result<bool, Failure> {
        for pid in self.sampler.followed() {
            self.target.adopt(pid);
        }
        let members = self.target.members();
        let mut snapshot = self.sample(&members);
        if self.target.left_out > 0 {
            snapshot.unseen.push(format!("{} processes are beyond what is followed at once", self.target.left_out));
        }
        snapshot.unseen.append(&mut self.clock.notes);
        snapshot.unseen.append(&mut self.notes);
        // One that is closed to us for now runs on.
        let runs = !snapshot.processes.is_empty() || !snapshot.unreadable.is_empty();
        let has_just_ended = std::mem::replace(&mut self.runs, runs) && !runs;
        if has_just_ended && self.target.waits_for_more() {
            self.messages.push("no process of the target runs any more: waiting for the next".to_owned());
        }
        let alive = !self.follows || runs || self.target.waits_for_more();
        let mut cost = own_cost();
        snapshot.readings.extend(own_readings(&cost));
        let mut tick = self.census.advance(&snapshot, self.fold.population());
        tick.command = self.command_at(&snapshot);
        cost.share = self.budget.spend(tick.at, cost.cpu_seconds);
        tick.cost = Some(cost);
        self.keep_within_budget(&mut tick);
        if self.backlog.as_ref().is_some_and(|backlog| backlog.dropped > 0) {
            tick.notes
                .push("the values of some ticks were given up: the recording could not be written for too long".into());
        }
        self.find_shown(&tick);
        let known = &self.fold.report().notes;
        self.messages.extend(tick.notes.iter().filter(|note| !known.contains(note)).cloned());
        self.fold.apply(&tick);
        // The last tick of a process is judged whatever the schedule of judging says.
        let verdict = if has_just_ended || !alive || self.fold.is_due() { self.fold.judge() } else { None };
        let suspected = self.ask_of_suspects();
        tick.used.extend(suspected.used);
        tick.stacks.extend(suspected.stacks);
        if let Some(on_leak) = &mut self.on_leak {
            on_leak.judged(self.fold.report());
            self.messages.extend(on_leak.complaints());
        }
        let value = tick.values.iter().find(|(key, _)| Some(*key) == self.shown_key).map(|(_, value)| *value);
        if let Some(backlog) = &mut self.backlog {
            match backlog.append(tick, verdict) {
                Written::Yes | Written::Waits => {}
                Written::BeginsToWait(error) => {
                    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                    self.messages.push(format!(
                        "the recording can't be written: {error}{hint}. Watching goes on; ticks wait in memory until it can."
                    ));
                }
                Written::CaughtUp if backlog.dropped > 0 => self
                    .messages
                    .push(format!("the recording has caught up, but for the values of {} ticks.", backlog.dropped)),
                Written::CaughtUp => self.messages.push("the recording has caught up: every tick is in it.".to_owned()),
            }
        }
        for message in self.messages.drain(..) {
            live.message(&message);
        }
        live.tick(self.fold.report(), value)?;
        Ok(alive)
    }

    /// Reads the target, with what the ledger knows of it. Whoever is new is followed before anything of it is read, so that what
    /// it opens from then on is seen by one or by the other.
    fn sample(&mut self, members: &[ProcessId]) -> Snapshot {
        let unseen = self.ledger.as_mut().map(|ledger| ledger.follow(members)).unwrap_or_default();
        let mut snapshot = self.sampler.sample(members, self.clock.now());
        snapshot.unseen.extend(unseen);
        if let Some(ledger) = &mut self.ledger {
            ledger.attend(&mut snapshot, self.clock.now());
        }
        snapshot
    }

    /// The command as it stands now, where that is news: it has started or ended, or more of it could not be seen.
    fn command_at(&mut self, snapshot: &Snapshot) -> Option<CommandRun> {
        let known = self.fold.report().command.as_ref();
        let news =
            self.command.take().map(|command| CommandRun { ended: command.ended.map(|_| snapshot.at), ..command });
        let mut unseen = snapshot.endings_unseen.clone();
        let command = news.as_ref().or(known)?;
        let has_closed = snapshot.descriptors_unseen > 0 || !snapshot.unreadable.is_empty();
        for (is_so, words) in [(self.target.left_out > 0, TOO_MANY), (has_closed && !command.has_last_look, CLOSED)] {
            if is_so || command.unseen.iter().any(|it| it == words) {
                unseen.push(words.to_owned());
            }
        }
        if command.unseen == unseen { news } else { Some(CommandRun { unseen, ..command.clone() }) }
    }

    /// Lengthens the interval where watching costs more than it may, and has the tick say so.
    fn keep_within_budget(&mut self, tick: &mut Tick) {
        let before = self.budget.every();
        let Some(said) = self.budget.keep_within(tick.cost.and_then(|cost| cost.share)) else { return };
        if self.budget.every() != before {
            tick.every = Some(self.budget.every());
            tick.events.push(Event { at: tick.at, process: None, kind: EventKind::Interval, text: said.clone() });
            self.census.set_every(self.budget.every());
        }
        tick.notes.push(said);
    }

    /// The interval from here on.
    pub(crate) fn every(&self) -> Duration {
        self.budget.every()
    }

    /// Finds the series that is shown; says so where the first tick has none of that name.
    fn find_shown(&mut self, tick: &Tick) {
        // The latest of that name: an endpoint that came back is a series of its own.
        if let Some(series) = tick.added.iter().rev().find(|series| series.name == self.shown) {
            self.shown_key = Some(series.key);
        }
        if self.fold.report().ticks == 0 && self.shown_key.is_none() && !self.shown.is_empty() {
            let known: Vec<&str> = tick.added.iter().map(|series| series.name.as_str()).collect();
            self.messages.push(format!("there is no series {:?} yet; there are {}", self.shown, known.join(", ")));
        }
    }

    /// What was seen, judged at the end; and the number of ticks that never got into the recording. Waits for the commands
    /// of `--on-leak` that are owed, each within its limit.
    pub(crate) fn finish(mut self) -> (Report, u64) {
        // What is suspected only now is asked after, and may be named by it.
        let mut verdicts: Vec<_> = self.fold.judge().into_iter().collect();
        let learned = self.ask_of_suspects();
        if !learned.used.is_empty() {
            verdicts.extend(self.fold.judge());
        }
        if let Some(backlog) = &mut self.backlog
            && let Err(error) = backlog.drain(verdicts, learned.used, learned.stacks)
        {
            talk(&format!("unclosed: the last verdict is not in the recording: {error}"));
        }
        let owed = self.backlog.as_ref().map_or(0, Backlog::owed);
        if let Some(mut on_leak) = self.on_leak {
            // A leak that only the end shows is one too.
            on_leak.judged(self.fold.report());
            on_leak.finish().iter().for_each(|complaint| talk(&format!("unclosed: {complaint}")));
        }
        (self.fold.into_report(), owed)
    }

    /// True when a process of the target was read at least once.
    pub(crate) fn has_seen_the_target(&self) -> bool {
        self.fold.report().target.as_ref().is_some_and(|target| !target.processes.is_empty())
    }

    /// Where the recording is, where there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.backlog.as_ref().map(Backlog::path)
    }

    /// How the target is read.
    pub(crate) fn source(&self) -> &'static str {
        self.sampler.source()
    }

    /// How it is seen who opens what, or why it isn't; `None` where that was left out.
    pub(crate) fn openers(&self) -> Option<&str> {
        self.openers.as_deref()
    }

    /// What a recording grows in an hour while little is opened and closed: measured, see `docs/journal`.
    pub(crate) fn bytes_per_hour(every: Duration) -> f64 {
        RECORDED_BYTES_PER_TICK * 3600.0 / every.as_secs_f64()
    }

    /// Takes the recording back where nothing came into it.
    pub(crate) fn discard(self) -> Result<(), StoreError> {
        if let Some(backlog) = self.backlog {
            let path = backlog.path().to_owned();
            drop(backlog);
            std::fs::remove_file(&path).map_err(|source| StoreError::Io { path, source })?;
        }
        Ok(())
    }
}

/// The ledger, where it can be kept here; why not, where it can't. Neither where it is left out.
fn ledger(options: &SamplingOptions, with_children: bool) -> (Option<Ledger>, Option<String>) {
    let Some(how) = options.ledger else { return (None, None) };
    match Ledger::attach(ProcFs::system().root(), LedgerOptions { with_children, ..how }) {
        Ok(ledger) => (Some(ledger), None),
        Err(why) => (
            None,
            Some(format!(
                "who opened what, and who used it last, can't be seen: {why}. `unclosed doctor` tells what it takes."
            )),
        ),
    }
}

/// Wall-clock time that never runs backwards: it follows the monotonic clock, and jumps forward with the wall clock where
/// the machine was suspended or its clock was set.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    anchor: Timestamp,
    set_back: bool,
    notes: Vec<String>,
}

/// A difference that adjusting the clock explains.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

impl Clock {
    fn start() -> Self {
        Clock { started: Instant::now(), anchor: wall(), set_back: false, notes: Vec::new() }
    }

    pub(super) fn now(&mut self) -> Timestamp {
        let at = self.anchor + self.started.elapsed();
        let ahead = wall().seconds_since(at);
        if ahead > CLOCK_SLACK.as_secs_f64() {
            self.anchor = self.anchor + Duration::from_secs_f64(ahead);
            return self.anchor + self.started.elapsed();
        }
        if ahead < -CLOCK_SLACK.as_secs_f64() && !self.set_back {
            self.set_back = true;
            self.notes.push(format!("the machine's clock was set back by {:.0} s: times here go on as before", -ahead));
        }
        at
    }
}

/// The wall clock's time.
pub(crate) fn wall() -> Timestamp {
    Timestamp(0) + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
