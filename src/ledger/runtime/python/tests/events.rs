//! What the kernel's side takes at an event of a program that runs on.

use super::super::super::super::hooks::{Hooks, SendHook};
use super::super::super::super::records;
use super::super::super::super::stacks::Resolved;
use super::super::super::super::targets::{Scope, Targets};
use super::*;
use crate::bpf::Unavailable;
use crate::model::{ProcessId, Stack};
use std::collections::HashSet;
use std::io::Write;

/// A program that is followed from where it says that it is ready.
struct Followed {
    program: Program,
    lines: Lines,
    hooks: Hooks,
    targets: Targets,
}

/// Follows the program of a case; `None` where the kernel can't be asked.
fn follow(path: &Path, folder: &Path, case: &str) -> Option<Followed> {
    let hooks = match Hooks::attach(SendHook::Auto) {
        Ok(hooks) => hooks,
        Err(why @ Unavailable::Other(_)) => panic!("{why}"),
        Err(why) => {
            eprintln!("{case} skipped: {why}");
            return None;
        }
    };
    let (program, _, mut lines) = launch(path, folder, case);
    assert_eq!(lines.next().unwrap().case, "ready");
    let mut targets = Targets::new(Path::new("/proc"), Scope { by_calls: false, with_children: false });
    assert!(targets.follow(&hooks, &[id_of(program.0.id())]).0.is_empty());
    Some(Followed { program, lines, hooks, targets })
}

impl Followed {
    /// Lets it run to where it waits again: what it said at each of its events, and the stacks that were taken.
    fn go_on(&mut self) -> (Vec<Said>, Vec<Vec<Frame>>) {
        self.program.0.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        let at_event = |said: &Said| !["ready", "done"].contains(&&*said.case);
        let said: Vec<Said> = self.lines.by_ref().take_while(at_event).collect();
        let mut stacks = Vec::new();
        while let Some(record) = self.hooks.stacks.next() {
            let (_, tgid, raw) = records::stack(record).unwrap();
            let watched = self.targets.get_mut(tgid).unwrap();
            let (frames, why) = watched.runtime.as_mut().unwrap().weave(&watched.process, &raw, Vec::new());
            assert!(why.is_none_or(|why| why == LACKS_TASKS));
            stacks.push((tgid, raw, Stack { frames, truncated: None }));
        }
        for (tgid, raw, stack) in &stacks {
            let resolved = Resolved { stack: stack.clone(), outermost_sp: None };
            self.targets.learn(&self.hooks, *tgid, raw, &resolved);
        }
        (said, stacks.into_iter().map(|(.., stack)| stack.frames).collect())
    }
}

fn id_of(pid: u32) -> ProcessId {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    let start_ticks = after_name.split(' ').nth(19).unwrap().parse().unwrap();
    ProcessId { boot_id: "".into(), pid, start_ticks }
}

#[test]
fn two_callers_of_one_function_have_a_path_each() {
    let folder = tempfile::tempdir().unwrap();
    for (minor, path) in interpreters() {
        let Some(mut followed) = follow(&path, folder.path(), "sends") else { return };
        let (events, stacks) = followed.go_on();
        let said: HashSet<&Vec<Row>> = events.iter().map(|said| &said.frames).collect();
        let taken: HashSet<Vec<Row>> = stacks.iter().map(|frames| frames.iter().cloned().map(row).collect()).collect();
        assert_eq!((events.len(), said.len()), (100, 2), "3.{minor}");
        assert_eq!(taken.iter().collect::<HashSet<_>>(), said, "3.{minor}");
        // A path is copied once; the interpreter has few ways from one Python frame to C.
        assert!(stacks.len() <= 20, "3.{minor}: {} paths", stacks.len());
    }
}

#[test]
fn tasks_that_await_what_runs_follow_it() {
    let folder = tempfile::tempdir().unwrap();
    for (minor, path) in interpreters() {
        let Some(mut followed) = follow(&path, folder.path(), "tasks") else { return };
        let source = fs::read_to_string(folder.path().join("främes.py")).unwrap();
        let line = |frame: &Frame| source.lines().nth(frame.line.unwrap() as usize - 1).unwrap();
        let (said, stacks) = followed.go_on();
        // The first stack shows where the loop runs what is due, and ends there: without its tasks it would name the loop's start.
        let first: Vec<Row> = stacks[0].iter().cloned().map(row).collect();
        assert!(said[0].frames.starts_with(&first), "3.{minor}: {first:#?}");
        assert!(first.last().is_some_and(|(function, ..)| function.ends_with("_run")), "3.{minor}: {first:#?}");
        let (said, stacks) = followed.go_on();
        let [frames] = stacks.as_slice() else { panic!("3.{minor}: {stacks:#?}") };
        let (awaiting, running): (Vec<Frame>, Vec<Frame>) =
            frames.iter().cloned().partition(|frame| frame.via == Via::Awaited);
        assert_eq!(running.into_iter().map(row).collect::<Vec<_>>(), said[0].frames, "3.{minor}");
        let (own, of_asyncio): (Vec<&Frame>, Vec<&Frame>) =
            awaiting.iter().partition(|frame| frame.file.as_deref().unwrap().ends_with("främes.py"));
        let names: Vec<&str> = own.iter().map(|frame| frame.function.as_deref().unwrap()).collect();
        assert_eq!(names, ["request", "transaction", "endpoint", "server"], "3.{minor}");
        assert!(own.iter().all(|frame| line(frame).ends_with("# awaits")), "3.{minor} {own:#?}");
        assert!(of_asyncio.len() <= 3, "3.{minor} {of_asyncio:#?}");
        let at =
            |name: &str| frames.iter().position(|frame| frame.function.as_deref().is_some_and(|it| it.ends_with(name)));
        assert!(at("handler") < at("request") && at("server") < at("_run"), "3.{minor}");
    }
}
