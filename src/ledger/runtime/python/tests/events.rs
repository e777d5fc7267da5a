//! What the kernel's side takes at an event of a program that runs on.

use super::super::super::super::hooks::{Hooks, SendHook};
use super::super::super::super::records;
use super::super::super::super::targets::{Scope, Targets};
use super::*;
use crate::bpf::Unavailable;
use crate::model::ProcessId;
use std::collections::HashSet;
use std::io::Write;

/// What the program did since it was followed: the paths of its events with their frames, and what it said at each.
struct Events {
    stacks: Vec<(u64, Vec<Row>)>,
    said: Vec<Said>,
}

/// Follows the program of a case from where it says that it is ready; `None` where the kernel can't be asked.
fn follow(path: &Path, folder: &Path, case: &str) -> Option<Events> {
    let mut hooks = match Hooks::attach(SendHook::Auto) {
        Ok(hooks) => hooks,
        Err(why @ Unavailable::Other(_)) => panic!("{why}"),
        Err(why) => {
            eprintln!("{case} skipped: {why}");
            return None;
        }
    };
    let (mut program, _, mut lines) = launch(path, folder, case);
    let ready = lines.next().unwrap();
    assert_eq!(ready.case, "ready");
    let mut targets = Targets::new(Path::new("/proc"), Scope { by_calls: false, with_children: false });
    assert_eq!(targets.follow(&hooks, &[id_of(program.0.id())]).0, Vec::<String>::new());
    program.0.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    let said: Vec<Said> = lines.by_ref().take_while(|said| said.case != "done").collect();
    let mut stacks = Vec::new();
    while let Some(record) = hooks.stacks.next() {
        let (path, tgid, raw) = records::stack(record).unwrap();
        let watched = targets.get_mut(tgid).unwrap();
        let (frames, why) = watched.runtime.as_mut().unwrap().weave(&watched.process, &raw, Vec::new());
        assert_eq!(why, None);
        stacks.push((path, frames.into_iter().map(row).collect()));
    }
    Some(Events { stacks, said })
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
        let Some(events) = follow(&path, folder.path(), "sends") else { return };
        let said: HashSet<&Vec<Row>> = events.said.iter().map(|said| &said.frames).collect();
        let taken: HashSet<&Vec<Row>> = events.stacks.iter().map(|(_, frames)| frames).collect();
        assert_eq!((events.said.len(), said.len()), (100, 2), "3.{minor}");
        assert_eq!(taken, said, "3.{minor}");
        // A path is copied once; the interpreter has few ways from one Python frame to C.
        assert!(events.stacks.len() <= 20, "3.{minor}: {} paths", events.stacks.len());
    }
}
