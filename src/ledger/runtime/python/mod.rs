//! CPython 3.8 to 3.13: which of its frames ran at the moment of the event, with function, file and line (`bpf/python.h`).
//!
//! - `interpreter`: finds it in a process, by the symbols that `dynamic` looks up; `offsets` knows where its fields are.
//! - `taken`: the frames as the kernel's side took them; `thread` walks those of a thread that waits.
//! - `code`, `lines`, `object`: names and lines of code objects.
//! - `weave`: native and Python frames as one stack.

mod code;
mod dynamic;
mod interpreter;
mod lines;
mod object;
mod offsets;
mod taken;
mod thread;
mod weave;

#[cfg(test)]
mod tests;

use super::super::process::Process;
use super::super::raw::RawStack;
use super::super::unwind::NativeFrame;
use super::{Runtime, Thread};
use crate::model::{Frame, Via};
use code::Codes;
use interpreter::Interpreter;
use taken::{HANDLE, NO_THREAD, RUN_ENDS, TASK, Taken, TakenFrame, UNREADABLE};
use weave::{PythonFrame, weave};

/// The Python of one process.
#[derive(Debug)]
pub(super) struct Python {
    interpreter: Interpreter,
    codes: Codes,
    has_news: bool,
}

/// The Python of a process; `None` where it has none.
pub(super) fn find(process: &Process) -> Option<Box<dyn Runtime>> {
    let interpreter = Interpreter::find(process)?;
    let codes = Codes::new(interpreter.code_type);
    Some(Box::new(Python { interpreter, codes, has_news: false }))
}

impl Runtime for Python {
    fn name(&self) -> String {
        self.interpreter.minor.map_or_else(|| "Python".to_owned(), |minor| format!("Python 3.{minor}"))
    }

    fn why_native(&self) -> Option<&str> {
        self.interpreter.offsets.as_ref().err().map(String::as_str)
    }

    fn number(&self) -> u32 {
        1
    }

    fn settings(&self) -> Vec<u8> {
        // Without offsets the kernel's side finds no interpreter, and takes nothing.
        self.interpreter
            .offsets
            .as_ref()
            .map_or_else(|_| Vec::new(), |offsets| offsets.settings(&self.interpreter.places))
    }

    fn weave(&mut self, process: &Process, raw: &RawStack, native: Vec<NativeFrame>) -> (Vec<Frame>, Option<String>) {
        let taken = Taken::parse(&raw.runtime).unwrap_or(Taken { flags: NO_THREAD, ..Taken::default() });
        let (python, lacks_tasks) = self.frames(process, &taken);
        let runs_python = native.iter().any(weave::is_evaluator);
        let why = self.why_cut(&taken, runs_python).or_else(|| lacks_tasks.then(|| LACKS_TASKS.to_owned()));
        (weave(python, native, &self.interpreter.path), why)
    }

    /// Python's frames are told apart by the kernel's side, so what is left is the way from C through its drivers to the system call.
    fn key_words(&self) -> Option<u32> {
        Some(64)
    }

    fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    fn take(&self, process: &Process, thread: Thread) -> Option<Vec<u8>> {
        let offsets = self.interpreter.offsets.as_ref().ok()?;
        Some(thread::frames_of(process, offsets, self.interpreter.runtime, thread).bytes())
    }
}

impl Python {
    /// The frames that run, each task's followed by those that await it; and whether those that await could not be taken. What
    /// stands below is then the loop's own start, which is nobody's opener: it is left out.
    fn frames(&mut self, process: &Process, taken: &Taken) -> (Vec<PythonFrame>, bool) {
        let mut frames: Vec<PythonFrame> = Vec::new();
        let mut awaiting = Some(&taken.awaiting);
        for running in &taken.running {
            if running.flags & HANDLE != 0
                && let Some(awaiting) = awaiting.take()
            {
                self.await_in(process, awaiting, &mut frames);
            }
            let ends_run = running.flags & RUN_ENDS != 0;
            frames.push(PythonFrame { frame: self.frame(process, *running, Via::Call), ends_run });
            if running.flags & HANDLE == 0 && running.code == self.interpreter.places.handle_run {
                return (frames, true);
            }
        }
        (frames, false)
    }

    /// Puts the frames that await between the task that runs and the loop that runs it.
    fn await_in(&mut self, process: &Process, awaiting: &[TakenFrame], frames: &mut Vec<PythonFrame>) {
        let ends_run = frames.last_mut().is_some_and(|last| std::mem::take(&mut last.ends_run));
        for task in awaiting.chunk_by(|_, next| next.flags & TASK == 0) {
            let outermost_last = task.iter().rev();
            let shown = outermost_last.map(|taken| self.frame(process, *taken, Via::Awaited));
            frames.extend(shown.map(|frame| PythonFrame { frame, ends_run: false }));
        }
        if let Some(last) = frames.last_mut() {
            last.ends_run = ends_run;
        }
    }

    /// A frame with names; `None` for one that isn't shown, as it hasn't begun.
    fn frame(&mut self, process: &Process, taken: TakenFrame, via: Via) -> Option<Frame> {
        let offsets = self.interpreter.offsets.as_ref().ok()?;
        let module = Some(self.interpreter.path.as_str().into());
        let Some(code) = self.codes.get(process, offsets, taken.code) else {
            // Its code object is gone by now, as that of a module that was run to its end.
            return Some(Frame { module, via, ..Frame::default() });
        };
        if code.is_before_its_start(taken.instruction) {
            return None;
        }
        if is_handle_run(&code.function, &code.file) && self.interpreter.places.handle_run != taken.code {
            self.interpreter.places.handle_run = taken.code;
            self.has_news = true;
        }
        Some(Frame {
            function: Some(code.function.clone()),
            file: Some(code.file.clone()),
            line: code.line_at(taken.instruction),
            module,
            via,
            own: false,
        })
    }

    /// Why frames of Python are missing, where some are; `runs_python` says that there should be some.
    fn why_cut(&self, taken: &Taken, runs_python: bool) -> Option<String> {
        if let Err(why) = &self.interpreter.offsets {
            return Some(format!("{why}: only native frames are shown"));
        }
        if taken.flags & UNREADABLE != 0 {
            return Some("an outer frame of Python could not be read".to_owned());
        }
        if taken.beyond > 0 {
            let kept = taken.running.len();
            return Some(format!(
                "of the frames of Python the innermost {kept} are kept, at least {} more called them",
                taken.beyond
            ));
        }
        (runs_python && taken.flags & NO_THREAD != 0)
            .then(|| "the interpreter's state of this thread was not found".to_owned())
    }
}

/// The kernel's side takes tasks once it has been told which code runs them, and that is learned from a stack.
const LACKS_TASKS: &str =
    "it was taken before asyncio's loop was known: the tasks that await what runs here are missing";

/// True for the code by which asyncio's loop runs whatever is due: it has the task.
fn is_handle_run(function: &str, file: &str) -> bool {
    (function == "Handle._run" || function == "_run") && file.ends_with("asyncio/events.py")
}
