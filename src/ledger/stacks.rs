//! Stacks by the key of their path: each is unwound and symbolized once, when its path is new.

use super::hooks::Hooks;
use super::process::Process;
use super::raw::RawStack;
use super::records;
use super::runtime::Runtime;
use super::targets::Targets;
use super::unwind::Natives;
use crate::model::{Frame, Stack, StackKey};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Paths that are remembered. What is beyond is forgotten all at once: the kernel's side copies its paths again.
const PATHS_MAX: usize = 1 << 16;

/// Stacks that wait to be looked at, 20 kB each.
const WAITING_MAX: usize = 512;

/// How long stacks are looked at in a row: a program's debug information may take seconds, and ticks go on.
const TIME_MAX: Duration = Duration::from_millis(250);

/// Different stacks of a recording.
const STACKS_MAX: u32 = 10_000;

/// A stack with what telling its path from others needs.
#[derive(Debug)]
pub(super) struct Resolved {
    pub stack: Stack,
    /// The stack pointer of the last frame.
    pub outermost_sp: Option<u64>,
}

/// All stacks so far.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    pub natives: Natives,
    by_path: HashMap<u64, Option<StackKey>>,
    by_content: HashMap<Stack, StackKey>,
    /// Keys given out so far.
    keys: u32,
    /// Those of paths whose stacks still wait.
    promised: HashMap<u64, StackKey>,
    /// Copied, and not looked at yet.
    waiting: VecDeque<(u64, u32, RawStack)>,
    /// Those that were not told yet.
    new: Vec<(StackKey, Stack)>,
    /// Uses of which the stack never came.
    pub lost: u64,
    /// Stacks beyond those that are kept.
    pub left_out: u64,
}

impl Stacks {
    /// Takes in the stacks that the kernel has copied since the last call, and looks at as many as time allows; the others are
    /// looked at in the next call.
    pub(super) fn take(&mut self, hooks: &mut Hooks, targets: &mut Targets) {
        self.gather(hooks, targets);
        let begun = Instant::now();
        while begun.elapsed() < TIME_MAX
            && let Some((path, tgid, raw)) = self.waiting.pop_front()
        {
            if self.by_path.len() >= PATHS_MAX {
                self.by_path.clear();
            }
            // What ended before its stack could be looked at has none that could be read.
            let promised = self.promised.remove(&path);
            let Some(watched) = targets.get_mut(tgid) else {
                self.lost += u64::from(promised.is_some());
                continue;
            };
            let resolved = self.resolve(&mut watched.process, watched.runtime.as_deref_mut(), &raw);
            targets.learn(hooks, tgid, &raw, &resolved);
            let key = self.key_or(resolved.stack, promised);
            self.by_path.insert(path, key);
        }
    }

    /// Takes over what the kernel has copied since the last call.
    fn gather(&mut self, hooks: &mut Hooks, targets: &mut Targets) {
        while let Some(record) = hooks.stacks.next() {
            let Some((path, tgid, raw)) = records::stack(record) else { continue };
            targets.glance(hooks, tgid, &raw);
            if self.waiting.len() >= WAITING_MAX {
                self.lost += 1;
            } else {
                self.waiting.push_back((path, tgid, raw));
            }
        }
    }

    /// The stack of a path, which may be told later than its key; `None` where there is none, or it was lost, which is counted.
    pub(super) fn of_path(&mut self, path: u64, hooks: &mut Hooks, targets: &mut Targets) -> Option<StackKey> {
        if path == 0 {
            return None;
        }
        if !self.by_path.contains_key(&path) {
            // Where some wait already this tick has no time for more.
            match self.waiting.is_empty() {
                true => self.take(hooks, targets),
                false => self.gather(hooks, targets),
            }
        }
        if let Some(known) = self.by_path.get(&path) {
            return *known;
        }
        if let Some(promised) = self.promised.get(&path) {
            return Some(*promised);
        }
        if !self.waiting.iter().any(|(waits, ..)| *waits == path) {
            self.lost += 1;
            return None;
        }
        let key = self.next_key()?;
        self.promised.insert(path, key);
        Some(key)
    }

    /// Names the frames of a raw stack.
    pub(super) fn resolve(
        &mut self,
        process: &mut Process,
        runtime: Option<&mut (dyn Runtime + 'static)>,
        raw: &RawStack,
    ) -> Resolved {
        let (native, cut) = self.natives.unwind(process, raw.registers, &raw.stack, raw.is_cut);
        let outermost_sp = native.last().map(|frame| frame.sp);
        let (frames, cut): (Vec<Frame>, _) = match runtime {
            Some(runtime) => {
                let (frames, cut_too) = runtime.weave(process, raw, native);
                (frames, cut_too.or(cut))
            }
            None => (native.into_iter().flat_map(|frame| frame.frames).collect(), cut),
        };
        Resolved { stack: Stack { frames, truncated: cut.map(String::into_boxed_str) }, outermost_sp }
    }

    /// The key of a stack; a new one is told.
    pub(super) fn key(&mut self, stack: Stack) -> Option<StackKey> {
        self.key_or(stack, None)
    }

    /// The key of a stack, of which one may have been `promised`. Where it is known by another, it is told by both.
    fn key_or(&mut self, stack: Stack, promised: Option<StackKey>) -> Option<StackKey> {
        if stack.frames.is_empty() {
            return None;
        }
        if let Some(known) = self.by_content.get(&stack).copied() {
            self.new.extend(promised.map(|key| (key, stack)));
            return Some(known);
        }
        let key = promised.or_else(|| self.next_key())?;
        self.by_content.insert(stack.clone(), key);
        self.new.push((key, stack));
        Some(key)
    }

    fn next_key(&mut self) -> Option<StackKey> {
        if self.keys >= STACKS_MAX {
            self.left_out += 1;
            return None;
        }
        self.keys += 1;
        Some(StackKey(self.keys))
    }

    /// Those that are new since the last call.
    pub(super) fn told(&mut self) -> Vec<(StackKey, Stack)> {
        std::mem::take(&mut self.new)
    }
}
