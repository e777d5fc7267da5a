//! What one tick adds to what is known: the step of the fold, live and in replay.

use super::{
    Activity, CommandRun, Gap, LastUse, Lifetime, LifetimeId, Limit, Process, ProcessKey, Series, SeriesKey, Stack,
    StackKey, Timestamp,
};
use std::time::Duration;

/// One tick.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    /// When it was taken.
    pub at: Timestamp,
    /// Processes seen for the first time.
    pub started: Vec<(ProcessKey, Process)>,
    /// Processes found to have ended.
    pub ended: Vec<ProcessKey>,
    /// Series that begin with this tick.
    pub added: Vec<Series>,
    /// The values of this tick; a series that is missing was not measured.
    pub values: Vec<(SeriesKey, f64)>,
    /// Resources seen for the first time.
    pub opened: Vec<Lifetime>,
    /// Open resources of which more has changed than what they carried.
    pub changed: Vec<Lifetime>,
    /// Open resources that have carried more, and are as they were otherwise.
    pub traffic: Vec<Traffic>,
    /// Open resources of whose last use more is known.
    pub used: Vec<Usage>,
    /// Resources that are gone. One that lived between two ticks is in `opened` too.
    pub closed: Vec<Closing>,
    /// Stacks that no tick before had.
    pub stacks: Vec<(StackKey, Stack)>,
    /// Holes that end with this tick.
    pub gaps: Vec<Gap>,
    /// Limits that are new or have changed.
    pub limits: Vec<Limit>,
    /// What happened.
    pub events: Vec<Event>,
    /// The run that is recorded, where that is new or has changed.
    pub command: Option<CommandRun>,
    /// What could not be seen, one sentence each.
    pub notes: Vec<String>,
    /// What watching has cost so far.
    pub cost: Option<Cost>,
    /// The interval from here on, where it has changed.
    pub every: Option<Duration>,
}

/// What a resource has carried by now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    /// The lifetime.
    pub id: LifetimeId,
    /// How much.
    pub activity: Activity,
    /// The last byte in either direction, as far as is known.
    pub last_active: Option<Timestamp>,
}

/// What is new of a resource's last use.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// The lifetime.
    pub id: LifetimeId,
    /// Who, and what was said.
    pub last: LastUse,
}

/// The end of a lifetime.
#[derive(Clone, Debug, PartialEq)]
pub struct Closing {
    /// The lifetime, with `closed` set or `ended_with_process`.
    pub lifetime: Lifetime,
    /// True where it is kept as a row of the uniform sample of closed ones.
    pub kept: bool,
    /// The row of the sample that it replaces.
    pub evicted: Option<LifetimeId>,
}

/// Something with a time that the target or its surroundings did.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Which process did it; `None` where none did.
    pub process: Option<ProcessKey>,
    /// What sort of thing.
    pub kind: EventKind,
    /// What, in words.
    pub text: String,
}

/// The sorts of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A process of the target started.
    Started,
    /// A process of the target ended.
    Ended,
    /// A restart that a series shows: a counter that fell to its beginning.
    Restart,
    /// The interval between ticks became another.
    Interval,
    /// A mark that a person put there.
    Mark,
}

impl EventKind {
    const NAMES: [(EventKind, &'static str); 5] = [
        (EventKind::Started, "started"),
        (EventKind::Ended, "ended"),
        (EventKind::Restart, "restart"),
        (EventKind::Interval, "interval"),
        (EventKind::Mark, "mark"),
    ];

    /// Its name in the recording.
    pub fn name(self) -> &'static str {
        EventKind::NAMES.iter().find(|(kind, _)| *kind == self).map_or("mark", |(_, name)| name)
    }

    /// Reads the name; one of a later version is a mark.
    pub fn parse(name: &str) -> EventKind {
        EventKind::NAMES.iter().find(|(_, known)| *known == name).map_or(EventKind::Mark, |(kind, _)| *kind)
    }
}

/// What watching itself has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// User and system CPU time since the start, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory now, in bytes; `None` where `/proc/self` can't be read.
    pub memory_bytes: Option<u64>,
    /// Descriptors of our own now; `None` as above.
    pub descriptors: Option<u64>,
    /// The share of one core over the latest ticks; `None` before there are two, and in a replay.
    pub share: Option<f64>,
}
