//! Runtimes: interpreters and schedulers whose frames the native stack doesn't show.
//!
//! A runtime has two sides. In the kernel (`bpf/NAME.h`) it takes, at the moment of the event, what moves or is freed later,
//! and says by a number of its own which path that is. Here it says where things stand in this process, and makes frames out
//! of what was taken. Each stands by itself: a further one is added to [`RUNTIMES`] and to `take_runtime` in `bpf/runtime.h`.

pub(super) mod go;
mod python;

use super::process::Process;
use super::raw::RawStack;
use super::unwind::NativeFrame;
use crate::model::Frame;

/// How many bytes of settings a runtime may hand to its kernel side.
pub(super) const SETTINGS_BYTES: usize = 256;

/// What was found of a runtime in a process.
pub(super) trait Runtime: std::fmt::Debug {
    /// Its name and version, for a person: `Python 3.11`.
    fn name(&self) -> String;

    /// Why none of its frames can be shown, where none can.
    fn why_native(&self) -> Option<&str> {
        None
    }

    /// The number of its kernel side, in `bpf/runtime.h`.
    fn number(&self) -> u32;

    /// Where things stand in this process, as its kernel side reads it: at most [`SETTINGS_BYTES`].
    fn settings(&self) -> Vec<u8>;

    /// The frames of a stack, innermost first: the native ones with those of the runtime woven in. Why frames are missing, where
    /// some are.
    fn weave(&mut self, process: &Process, raw: &RawStack, native: Vec<NativeFrame>) -> (Vec<Frame>, Option<String>);

    /// How many words of the native stack's top tell its paths apart, besides what its kernel side says; `None` where all do.
    fn key_words(&self) -> Option<u32> {
        None
    }

    /// False where what runs on one thread may go on on another.
    fn stays_on_its_thread(&self) -> bool {
        true
    }

    /// True where what has been learned from stacks so far has changed the settings, since the last call.
    fn has_news(&mut self) -> bool {
        false
    }

    /// What the kernel's side would take of a thread that waits, read from outside; `None` where the runtime can't.
    fn take(&self, _process: &Process, _thread: Thread) -> Option<Vec<u8>> {
        None
    }
}

/// A thread of the process, as it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    /// Its number in the process' own namespace: the last of `NSpid` in its `status`.
    pub tid_inside: u32,
    /// What `pthread_self` says in it; `None` where that isn't known from outside.
    pub fsbase: Option<u64>,
}

/// Those that are known, each with how it is found in a process.
type Find = fn(&Process) -> Option<Box<dyn Runtime>>;

/// All of them; the first that is found is the process'.
const RUNTIMES: [Find; 2] = [python::find, go::find];

/// The runtime of a process; `None` where it has none that is known.
pub(super) fn find(process: &Process) -> Option<Box<dyn Runtime>> {
    RUNTIMES.iter().find_map(|find| find(process))
}
