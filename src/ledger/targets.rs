//! The processes that the kernel's side watches: who they are there, where their code is, which runtime they have.

use super::hooks::Hooks;
use super::process::Process;
use super::raw::RawStack;
use super::records::Thread;
use super::runtime::{self, Runtime, SETTINGS_BYTES};
use super::stacks::Resolved;
use super::threads;
use crate::model::ProcessId;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

/// `struct target` in `bpf/ledger.h`.
const TARGET_BYTES: usize = RUNTIME_AT + 8 + SETTINGS_BYTES;
const CODE_AT: usize = 48;
const CODE_MAX: usize = 16;
const RUNTIME_AT: usize = CODE_AT + CODE_MAX * 16;

/// Its flags.
const BY_CALLS: u32 = 1;
const SENDS_BY_CALLS: u32 = 2;
const WITH_CHILDREN: u32 = 4;

/// Words of the stack's top that tell paths apart, before it is known how deep the stacks of a process are: all that can be.
const KEY_WORDS_MAX: u32 = 1024;
/// The fewest, for what has no runtime that says which path it is on.
const KEY_WORDS_MIN: u32 = 32;
/// Two clock ticks of `/proc/PID/stat` are this long, in nanoseconds.
const START_SLACK_NS: u64 = 20_000_000;

/// A process that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    pub id: ProcessId,
    pub process: Process,
    pub runtime: Option<Box<dyn Runtime>>,
    key_words: u32,
    /// The deepest whole stack so far, in words; `None` once one could not be unwound to its end.
    depth: Option<u32>,
    runs: bool,
    is_new: bool,
}

impl Watched {
    /// False once it has ended.
    pub(super) fn runs(&self) -> bool {
        self.runs
    }
}

/// What all targets have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// Every kind of descriptor is of interest, not connections alone.
    pub by_calls: bool,
    /// Children are targets from their fork on.
    pub with_children: bool,
}

/// All of them, by their numbers in the machine's own pid namespace.
#[derive(Debug)]
pub(super) struct Targets {
    proc: PathBuf,
    scope: Scope,
    watched: HashMap<u32, Watched>,
    known: HashSet<ProcessId>,
    /// How deep our pid namespace lies below the machine's own.
    level: u32,
    /// Our own number there, while we start a command.
    ourselves: Option<u32>,
}

impl Targets {
    /// None yet.
    pub(super) fn new(proc: &Path, scope: Scope) -> Self {
        Targets {
            proc: proc.to_owned(),
            scope,
            watched: HashMap::new(),
            known: HashSet::new(),
            level: 0,
            ourselves: None,
        }
    }

    /// Has the kernel watch these processes from now on, and no others. Gives back what could not be, and the pids of those that
    /// are watched no more.
    pub(super) fn follow(&mut self, hooks: &Hooks, members: &[ProcessId]) -> (Vec<String>, Vec<u32>) {
        let members: HashSet<&ProcessId> = members.iter().collect();
        let gone = self.watched.iter().filter(|(_, it)| !members.contains(&it.id));
        let gone: Vec<(u32, u32)> = gone.map(|(tgid, it)| (*tgid, it.id.pid)).collect();
        gone.iter().for_each(|(tgid, _)| self.forget(hooks, *tgid));
        let new: Vec<ProcessId> = members.into_iter().filter(|id| !self.known.contains(*id)).cloned().collect();
        let mut notes = Vec::new();
        for id in new {
            let pid = id.pid;
            self.known.insert(id.clone());
            if let Err(error) = self.add(hooks, id) {
                notes.push(format!("who opens what in process {pid} can't be seen: {error}"));
            }
        }
        (notes, gone.into_iter().map(|(_, pid)| pid).collect())
    }

    fn add(&mut self, hooks: &Hooks, id: ProcessId) -> io::Result<()> {
        let threads = threads::of_process(hooks, id.pid)?;
        let Some(thread) = threads.iter().find(|thread| is_of(thread, &id)) else { return Ok(()) };
        self.level = thread.level;
        let process = Process::open(&self.proc, id.pid)?;
        let runtime = runtime::find(&process);
        let key_words = runtime.as_ref().and_then(|runtime| runtime.key_words()).unwrap_or(KEY_WORDS_MAX);
        let watched = Watched { id, process, runtime, key_words, depth: Some(0), runs: true, is_new: true };
        hooks.targets.update(&thread.tgid, &self.value(hooks, &watched))?;
        self.watched.insert(thread.tgid, watched);
        Ok(())
    }

    /// Has the kernel's side take us for a target, so that what we start is one from its first moment on.
    pub(super) fn adopt_ourselves(&mut self, hooks: &Hooks) -> io::Result<()> {
        let ourselves = threads::of_process(hooks, std::process::id())?;
        let ourselves = ourselves.first().ok_or(io::ErrorKind::NotFound)?;
        self.level = ourselves.level;
        let mut value = [0; TARGET_BYTES];
        value[..4].copy_from_slice(&(self.flags(hooks) | WITH_CHILDREN).to_ne_bytes());
        value[4..8].copy_from_slice(&KEY_WORDS_MAX.to_ne_bytes());
        value[8..12].copy_from_slice(&self.level.to_ne_bytes());
        self.ourselves = Some(ourselves.tgid);
        hooks.targets.update(&ourselves.tgid, &value)
    }

    /// We are none any more.
    pub(super) fn forget_ourselves(&mut self, hooks: &Hooks) {
        if let Some(tgid) = self.ourselves.take() {
            // It fails only where there is nothing to take out.
            let _ = hooks.targets.delete(&tgid);
        }
    }

    /// The process of that number.
    pub(super) fn get(&self, tgid: u32) -> Option<&Watched> {
        self.watched.get(&tgid)
    }

    /// The process of that number, to be changed.
    pub(super) fn get_mut(&mut self, tgid: u32) -> Option<&mut Watched> {
        self.watched.get_mut(&tgid)
    }

    /// It runs another program: all that was known of it is out of date.
    pub(super) fn has_executed(&mut self, hooks: &Hooks, tgid: u32) {
        let Some(before) = self.watched.remove(&tgid) else { return };
        // Its pid and start stay; where it can't be opened it is ending, and the kernel's side forgets it.
        let _ = self.add(hooks, before.id);
    }

    /// It has ended; what is still to be told of it may name it until the next tick.
    pub(super) fn has_ended(&mut self, tgid: u32) {
        if let Some(it) = self.watched.get_mut(&tgid) {
            it.runs = false;
        }
    }

    /// Takes in what a stack tells of its runtime, before it is looked at: each that comes without it is poorer.
    pub(super) fn glance(&mut self, hooks: &Hooks, tgid: u32, raw: &RawStack) {
        let Some(it) = self.watched.get_mut(&tgid).filter(|it| it.runs) else { return };
        let Some(runtime) = &mut it.runtime else { return };
        runtime.weave(&it.process, raw, Vec::new());
        if runtime.has_news() {
            self.tell(hooks, tgid);
        }
    }

    /// Takes in what was learned from the stacks of a process: how much of one tells paths apart, and what its runtime found.
    pub(super) fn learn(&mut self, hooks: &Hooks, tgid: u32, raw: &RawStack, resolved: &Resolved) {
        let Some(it) = self.watched.get_mut(&tgid).filter(|it| it.runs) else { return };
        let before = it.key_words;
        if it.runtime.as_ref().and_then(|runtime| runtime.key_words()).is_none() {
            let end = resolved.outermost_sp.filter(|_| resolved.stack.truncated.is_none());
            let words = end.map(|end| (end.saturating_sub(raw.registers.sp) / 8) as u32 + 2);
            it.depth = it.depth.zip(words).map(|(depth, words)| depth.max(words));
            it.key_words = it.depth.map_or(KEY_WORDS_MAX, |depth| depth.clamp(KEY_WORDS_MIN, KEY_WORDS_MAX));
        }
        let has_news = it.runtime.as_mut().is_some_and(|runtime| runtime.has_news());
        if has_news || it.key_words != before {
            self.tell(hooks, tgid);
        }
    }

    /// Looks at what has been mapped since, and has the kernel's side know where code is now. Gives back the processes of which
    /// that is news: those that are new, too.
    pub(super) fn remap(&mut self, hooks: &Hooks) -> Vec<u32> {
        let mut changed = Vec::new();
        for (tgid, it) in self.watched.iter_mut().filter(|(_, it)| it.runs) {
            // One that can't be read any more is ending.
            let has_news = it.process.refresh().unwrap_or(false);
            if has_news && it.runtime.is_none() {
                it.runtime = runtime::find(&it.process);
                it.key_words = it.runtime.as_ref().and_then(|runtime| runtime.key_words()).unwrap_or(it.key_words);
            }
            if has_news || std::mem::take(&mut it.is_new) {
                changed.push(*tgid);
            }
        }
        changed.iter().for_each(|tgid| self.tell(hooks, *tgid));
        changed
    }

    fn tell(&self, hooks: &Hooks, tgid: u32) {
        if let Some(it) = self.watched.get(&tgid) {
            // It fails only where the map is full, which `follow` has said.
            let _ = hooks.targets.update(&tgid, &self.value(hooks, it));
        }
    }

    fn forget(&mut self, hooks: &Hooks, tgid: u32) {
        if let Some(it) = self.watched.remove(&tgid) {
            self.known.remove(&it.id);
        }
        // One that has ended was taken out by the kernel's side.
        let _ = hooks.targets.delete(&tgid);
    }

    /// Those of any target.
    fn flags(&self, hooks: &Hooks) -> u32 {
        let flag = |flag, is_set: bool| if is_set { flag } else { 0 };
        flag(BY_CALLS, self.scope.by_calls)
            | flag(SENDS_BY_CALLS, hooks.sends_by_calls)
            | flag(WITH_CHILDREN, self.scope.with_children)
    }

    /// `struct target`.
    fn value(&self, hooks: &Hooks, it: &Watched) -> [u8; TARGET_BYTES] {
        let mut value = [0; TARGET_BYTES];
        let mut put = |at: usize, bytes: &[u8]| value[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.flags(hooks).to_ne_bytes());
        put(4, &it.key_words.to_ne_bytes());
        put(8, &self.level.to_ne_bytes());
        let program = std::fs::read_link(self.proc.join(it.id.pid.to_string()).join("exe")).ok();
        let program = program.as_deref().and_then(Path::to_str).map(|path| path.trim_end_matches(" (deleted)"));
        let code = code_of(&it.process, program);
        put(12, &(code.libraries.len() as u32).to_ne_bytes());
        let mut put_range = |at: usize, (start, end): (u64, u64)| {
            put(at, &start.to_ne_bytes());
            put(at + 8, &(end - start).to_ne_bytes());
        };
        put_range(16, code.main);
        let first = code.libraries.first().map_or(0, |range| range.0);
        put_range(32, (first, code.libraries.last().map_or(first, |range| range.1)));
        for (place, range) in code.libraries.iter().enumerate() {
            put_range(CODE_AT + 16 * place, *range);
        }
        if let Some(runtime) = &it.runtime {
            put(RUNTIME_AT, &runtime.number().to_ne_bytes());
            let settings = runtime.settings();
            put(RUNTIME_AT + 8, &settings[..settings.len().min(SETTINGS_BYTES)]);
        }
        value
    }
}

/// Where the code of a process is that tells its paths apart, each from a first byte to the one after the last.
struct Code {
    main: (u64, u64),
    /// In their order, at most [`CODE_MAX`]: neighbours that are nearest are taken together.
    libraries: Vec<(u64, u64)>,
}

/// Libraries of the system are left out: what calls them differs, and looking for their addresses takes most of a hook's time.
fn code_of(process: &Process, program: Option<&str>) -> Code {
    let executable = process.mappings().iter().filter(|it| it.is_executable);
    let (of_main, others): (Vec<_>, Vec<_>) = executable.partition(|it| Some(it.path.as_str()) == program);
    let start = of_main.iter().map(|it| it.start).min().unwrap_or(0);
    let end = of_main.iter().map(|it| it.end).max().unwrap_or(start);
    let others = others.iter().filter(|it| !is_of_the_system(&it.path));
    let mut libraries: Vec<(u64, u64)> = others.map(|it| (it.start, it.end)).collect();
    libraries.sort_unstable();
    while libraries.len() > CODE_MAX {
        let gap = |place: &usize| libraries[*place + 1].0 - libraries[*place].1;
        let Some(nearest) = (0..libraries.len() - 1).min_by_key(gap) else { break };
        libraries[nearest].1 = libraries[nearest + 1].1;
        libraries.remove(nearest + 1);
    }
    Code { main: (start, end), libraries }
}

/// True for what a system's packages install, and for what the kernel maps.
fn is_of_the_system(path: &str) -> bool {
    const FOLDERS: [&str; 6] = ["/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/", "/usr/libexec/", "["];
    FOLDERS.iter().any(|folder| path.starts_with(folder))
}

/// True where a thread is of this process, and not of one that has its pid by now.
fn is_of(thread: &Thread, id: &ProcessId) -> bool {
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let started = id.start_ticks * (1_000_000_000 / ticks_per_second);
    thread.pid == id.pid && thread.started.abs_diff(started) <= START_SLACK_NS
}
