//! `run -- CMD`: the command is what it would be without us, and is judged at its end.

use crate::act::{Folder, Run, has, leak_in, shown, skip, until};
use crate::leakers::Churn;
use rustix::process::{Pid, Signal, kill_process};

/// `run` of a shell's line, recorded in a file of the folder.
fn run(folder: &Folder, line: &str) -> Run {
    let output = format!("--output={}", folder.file("r.unclosed").display());
    Run::new(["run", "--every", "50ms", &output, "--", "sh", "-c", line])
}

#[test]
fn the_commands_exit_code_and_output_are_its_own() {
    let folder = Folder::new();
    let done = run(&folder, "cat; printf 'no line end'; echo complaint >&2; exit 42").stdin("typed\n").done().code(42);
    assert_eq!(done.out, "typed\nno line end");
    done.complains(&["complaint\n", "Recording: ", "Next: ", "unclosed show "]);
}

#[test]
fn a_command_that_is_fine_is_fine_and_undecided_where_that_is_asked() {
    let folder = Folder::new();
    run(&folder, "true").done().ok();
    Run::it("run --fail-on-leak -- true").done().code(4);
    Run::it("run --fail-on-leak -- false").done().code(1);
}

#[test]
fn what_can_not_be_run_ends_as_in_a_shell_and_leaves_no_recording() {
    let folder = Folder::new();
    let file = folder.file("r.unclosed");
    Run::it("run").output(&file).and("-- no-such-command").done().code(127).complains(&["no-such-command"]);
    assert!(!file.exists());
    let script = folder.with("not-executable", "#!/bin/sh\n");
    Run::it("run").output(&file).and("--").file(&script).done().code(126);
    assert!(!file.exists());
}

#[test]
fn signals_reach_the_command() {
    let folder = Folder::new();
    for (name, signal) in [("TERM", Signal::TERM), ("INT", Signal::INT), ("HUP", Signal::HUP), ("USR1", Signal::USR1)] {
        let line = format!("trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done");
        let file = folder.file(name);
        let mut running = Run::it("run --every 50ms").output(&file).and("-- sh -c").and_whole(&line).start();
        running.line("ready");
        running.signal(signal);
        running.line(&format!("got {name}"));
        running.done().code(9);
        assert!(shown(&file)["ticks"].as_u64().unwrap() > 0);
    }
}

#[test]
fn a_command_that_a_signal_kills_gives_128_and_the_signal() {
    let folder = Folder::new();
    run(&folder, "kill -KILL $$").done().code(128 + 9);
    let mut running = Run::it("run --every 50ms")
        .output(&folder.file("s"))
        .and("-- sh -c")
        .and_whole("echo ready; exec sleep 60")
        .start();
    running.line("ready");
    running.signal(Signal::TERM);
    running.done().code(128 + 15);
}

#[test]
fn children_are_followed_and_a_leak_of_theirs_is_told() {
    let folder = Folder::new();
    let file = folder.file("r.unclosed");
    let line = format!("{} & wait", Churn::command("--leak-per-second 3"));
    let mut running = Run::it("run").output(&file).and("-- sh -c").and_whole(&line).start();
    let client = running.line_that("the client's pid", |line| line.parse::<i32>().is_ok()).parse().unwrap();
    until("the first tick", || (shown(&file)["ticks"].as_u64()? > 0).then_some(()));
    leak_in(&file, 20);
    // The shell waits for it, and we for the shell.
    kill_process(Pid::from_raw(client).unwrap(), Signal::KILL).unwrap();
    let done = running.done().ok();
    // The command's own output came through, and nothing but that.
    let leaks = done.out.lines().filter(|line| line.starts_with("leaked ")).count();
    assert!(leaks > 60 && done.out.lines().count() == leaks + 2, "{}", done.out);
    let report = shown(&file);
    let processes = report["target"]["processes"].as_array().unwrap();
    // The shell, the client, the client's server.
    assert!(processes.len() >= 3, "{processes:?}");
    assert_eq!(report["verdict"]["kind"], "leak", "{:#}", report["verdict"]);
    done.complains(&["LEAK"]);
    Run::it("show --fail-on-leak").file(&file).done().code(3);
}

#[test]
fn the_command_has_nothing_of_ours_open() {
    if !has("python3") {
        skip!("there is no python3");
    }
    let folder = Folder::new();
    let script = "import os\nfor fd in range(3, 200):\n  try: print(fd, os.readlink(f'/proc/self/fd/{fd}'))\n  except OSError: pass";
    let line = format!("python3 -c \"{script}\"");
    let alone = Run::shell(&line).done().ok().out;
    assert_eq!(run(&folder, &line).done().ok().out, alone);
}

#[test]
fn a_command_killed_from_outside_is_noticed_at_once() {
    let folder = Folder::new();
    let file = folder.file("k");
    let mut running =
        Run::it("run --every 1h").output(&file).and("-- sh -c").and_whole("echo $$; exec sleep 3600").start();
    let pid: i32 = running.line_that("its pid", |line| line.parse::<i32>().is_ok()).parse().unwrap();
    until("the first tick", || (shown(&file)["ticks"].as_u64()? > 0).then_some(()));
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    running.done().code(128 + 9);
}
