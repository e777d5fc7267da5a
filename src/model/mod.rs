//! The nouns, as `docs` and JSON use them. No I/O, no clock: a time is always an argument.
//!
//! A reading of the target is a [`Snapshot`]; the difference between two of them, with the numbers taken, is a
//! [`Tick`]; what has been open so far is the [`Population`]; a judged statement is a [`Finding`]; all that a
//! person is shown at the end is a [`Report`].

mod address;
mod command_run;
mod detail;
mod finding;
mod holdings;
mod lifetime;
mod population;
mod probe;
mod process;
mod report;
mod resource;
mod series;
mod snapshot;
mod splitmix;
mod stack;
mod tally;
mod tick;
mod time;

pub use address::Address;
pub use command_run::{Allowance, CommandRun};
pub use detail::{Detail, PipeEnd};
pub use finding::{Exhaustion, Finding, Rate, Verdict};
pub use holdings::{HoldingProcess, MachineSnapshot, ProcessHoldings};
pub use lifetime::{Holder, Lifetime, LifetimeId};
pub use population::Population;
pub use probe::{Capability, Container, Diagnosis, Lack, Probe, ProbedTarget, Runtime, Setting, Source, Way, Works};
pub use process::{Process, ProcessId, ProcessKey};
pub use report::{Judged, Report, SeriesReport, Target, VerdictChange};
pub use resource::{Access, Activity, Identity, Kind, Resource, SocketType, State, UnixPeer};
pub use series::{Gap, Limit, Points, Series, SeriesKey, Unit};
pub use snapshot::{Descriptor, Ending, HeldAtEnd, Passed, Reading, Sighting, Snapshot, Witnessed};
pub(crate) use splitmix::splitmix64;
pub use stack::{FURTHER_STACKS, Frame, LastUse, Message, STACKS_MAX, Stack, StackKey, Use, Via, Whereabouts};
pub use tally::{CodeGroup, Group, KnownGroups, Part, Tallies, Tally};
pub use tick::{Closing, Cost, Event, EventKind, Tick, Traffic, Usage};
pub use time::{Timestamp, duration_words};
