//! Native frames and Python's as one stack: each run of Python's frames in the place of the evaluator that runs it.

use super::super::super::unwind::NativeFrame;
use crate::model::Frame;

/// The function that runs Python's frames: since 3.11 several in one call, where Python calls Python.
const EVALUATOR: &str = "_PyEval_EvalFrameDefault";

/// A frame of Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PythonFrame {
    /// As it is shown; `None` for one that isn't, and only takes part in the order.
    pub frame: Option<Frame>,
    /// True for the last of a run: what called it is C.
    pub ends_run: bool,
}

/// One stack of both. What else the interpreter does between its frames is left out, for it says nothing of the program.
pub(super) fn weave(python: Vec<PythonFrame>, native: Vec<NativeFrame>, interpreter: &str) -> Vec<Frame> {
    let is_interpreter =
        |native: &NativeFrame| native.frames.iter().any(|frame| frame.module.as_deref() == Some(interpreter));
    let has_names = native.iter().any(is_evaluator);
    let last = native.iter().rposition(|native| is_evaluator(native) || is_interpreter(native));
    let mut woven = Vec::new();
    let mut python = python.into_iter();
    for (at, native) in native.into_iter().enumerate() {
        if is_evaluator(&native) {
            take_run(&mut python, &mut woven);
        } else if !is_interpreter(&native) {
            woven.extend(native.frames);
            continue;
        } else if !has_names {
            // Where the evaluator can't be told from the rest, all stand where the interpreter begins.
            woven.extend(python.by_ref().filter_map(|python| python.frame));
        }
        if last == Some(at) {
            woven.extend(python.by_ref().filter_map(|python| python.frame));
        }
    }
    // The native stack was cut before it came to the interpreter.
    woven.extend(python.filter_map(|python| python.frame));
    woven
}

/// True for a native frame that runs Python's.
pub(super) fn is_evaluator(native: &NativeFrame) -> bool {
    native.frames.iter().any(|frame| frame.function.as_deref().is_some_and(|function| function.starts_with(EVALUATOR)))
}

fn take_run(python: &mut impl Iterator<Item = PythonFrame>, woven: &mut Vec<Frame>) {
    for python in python {
        woven.extend(python.frame);
        if python.ends_run {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERPRETER: &str = "/usr/bin/python3.11";

    fn native(functions: &[&str]) -> Vec<NativeFrame> {
        let frame = |name: &&str| {
            let (module, function) = name.split_once(':').unwrap_or((INTERPRETER, name));
            let frame = Frame { function: Some(function.into()), module: Some(module.into()), ..Frame::default() };
            NativeFrame { address: 0, sp: 0, frames: vec![frame] }
        };
        functions.iter().map(frame).collect()
    }

    /// `;` parts the runs.
    fn python(runs: &str) -> Vec<PythonFrame> {
        let run = |run: &str| {
            let mut frames: Vec<PythonFrame> = run
                .split_whitespace()
                .map(|name| Frame { function: Some(name.into()), ..Frame::default() })
                .map(|frame| PythonFrame { frame: Some(frame), ends_run: false })
                .collect();
            if let Some(last) = frames.last_mut() {
                last.ends_run = true;
            }
            frames
        };
        runs.split(';').flat_map(run).collect()
    }

    fn names(frames: &[Frame]) -> String {
        frames.iter().map(|frame| frame.function.as_deref().unwrap_or("?")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_run_stands_where_its_evaluator_was() {
        let natives = native(&[
            "libc:send",
            "_socket:sock_send",
            "cfunction_call",
            "_PyEval_EvalFrameDefault",
            "method_vectorcall",
            "_sqlite3:callback",
            "libsqlite3:step",
            "_PyEval_EvalFrameDefault.cold",
            "pymain_run",
            "libc:__libc_start_main",
            "_start",
        ]);
        let woven = weave(python("inner outer; query <module>"), natives, INTERPRETER);
        assert_eq!(names(&woven), "send sock_send inner outer callback step query <module> __libc_start_main");
    }

    #[test]
    fn a_cut_native_stack_cuts_no_python_frames() {
        let woven = weave(python("a b; c; d"), native(&["libc:send", "_PyEval_EvalFrameDefault"]), INTERPRETER);
        assert_eq!(names(&woven), "send a b c d");
        let woven = weave(python("a b; c"), native(&["libc:send", "libpq:flush"]), INTERPRETER);
        assert_eq!(names(&woven), "send flush a b c");
        assert_eq!(names(&weave(python("a"), Vec::new(), INTERPRETER)), "a");
    }

    #[test]
    fn an_interpreter_without_names_stands_as_one() {
        let natives = native(&["libc:send", "?", "?", "_sqlite3:callback", "?", "libc:start"]);
        assert_eq!(names(&weave(python("a; b"), natives, INTERPRETER)), "send a b callback start");
    }

    #[test]
    fn frames_of_another_program_stay_as_they_are() {
        let natives = native(&["libc:send", "worker:run"]);
        assert_eq!(names(&weave(Vec::new(), natives, INTERPRETER)), "send run");
    }
}
