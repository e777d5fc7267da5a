//! `run -- CMD`: the command is what it would be without us, and is judged at its end.

use crate::act::{AS_NOBODY, Folder, Run, has, is_root, leak_in, leaked_of, shown, skip, until};
use crate::leakers::Churn;
use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpListener;

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
fn a_command_that_is_fine_is_fine() {
    let folder = Folder::new();
    run(&folder, "true").done().ok();
    if is_root() {
        Run::it("run --fail-on-leak -- true").done().ok();
    }
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

/// A server that takes connections and keeps them, for as long as the case lasts.
pub(crate) fn server() -> (u16, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap().port(), listener)
}

/// A Python program that connects to the port so many times, as `open`, and goes on as told.
pub(crate) fn client(port: u16, count: usize, rest: &str) -> String {
    format!(
        "import socket, os, sys, time\nopen = [socket.create_connection(('127.0.0.1', {port})) for _ in range({count})]\n{rest}\nsys.stdout.flush()\nos._exit(0)"
    )
}

/// `run --fail-on-leak` of a Python program.
pub(crate) fn judged(flags: &str, file: &std::path::Path, program: &str) -> Run {
    Run::it("run --fail-on-leak").and(flags).output(file).and("-- python3 -c").and_whole(program)
}

#[test]
fn one_connection_that_is_left_at_the_exit_is_enough() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let (folder, (port, _server)) = (Folder::new(), server());
    let file = folder.file("r.unclosed");
    let endpoint = format!("127.0.0.1:{port}");
    judged("", &file, &client(port, 1, "")).done().code(3).complains(&["1 connection to tcp", &endpoint, "left open"]);
    let report = shown(&file);
    assert_eq!(report["verdict"]["kind"], "leak");
    assert_eq!(report["verdict"]["rate_per_hour"], serde_json::Value::Null);
    let leaked = leaked_of(&report);
    assert_eq!((leaked.len(), leaked[0]["remote"].as_str()), (1, Some(endpoint.as_str())));
    assert_eq!(report["findings"][0]["evidence"], serde_json::json!([leaked[0]["id"]]));
    Run::it("show --fail-on-leak").file(&file).done().code(3);
}

#[test]
fn what_is_closed_just_before_the_exit_is_not_left_open() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let (folder, (port, _server)) = (Folder::new(), server());
    for round in 0..20 {
        let closes = client(port, 3, "for one in open: one.close()");
        judged("--every 50ms", &folder.file(&round.to_string()), &closes).done().ok();
    }
}

#[test]
fn a_known_pool_is_allowed_and_what_is_beyond_it_is_not() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let (folder, (port, _server)) = (Folder::new(), server());
    let run = |name: &str, flags: String| judged(&flags, &folder.file(name), &client(port, 5, "")).done();
    run("a", format!("--allow tcp:{port}<=5")).ok().complains(&["5 that --allow"]);
    run("b", "--allow tcp<=5".to_owned()).ok();
    run("c", format!("--allow tcp:{port}<=3")).code(3);
    assert_eq!(leaked_of(&shown(&folder.file("c"))).len(), 2);
    run("d", String::new()).code(3);
    run("e", "--allow tcp:5432".to_owned()).fails(2, &["<=", "tcp:5432<=5"]);
}

#[test]
fn what_outlives_the_command_has_time_to_close() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let (folder, (port, _server)) = (Folder::new(), server());
    // The parent waits for the word that the child has connected.
    let daemon = |rest: &str| {
        format!(
            "import os, socket, sys, time\nr, w = os.pipe()\nif os.fork():\n  os.read(r, 1)\n  os._exit(0)\nos.setsid()\nopen = socket.create_connection(('127.0.0.1', {port}))\nos.write(w, b'x')\n{rest}"
        )
    };
    judged("--settle 5s", &folder.file("a"), &daemon("time.sleep(0.5)\nopen.close()")).done().ok();
    judged("--settle 1s", &folder.file("b"), &daemon("time.sleep(6)")).done().code(3);
}

#[test]
fn what_was_inherited_is_not_the_commands() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let (folder, (port, _server)) = (Folder::new(), server());
    let file = folder.file("r.unclosed");
    // A shell of Python that has a connection open, inherited by us and by the command.
    let starts = format!(
        "import os, socket\nopen = socket.create_connection(('127.0.0.1', {port}))\nopen.set_inheritable(True)\nos.execv(os.environ['unclosed'], ['unclosed', 'run', '--fail-on-leak', '--output', {:?}, '--', 'sleep', '0.3'])",
        file.display().to_string()
    );
    Run::program("python3", ["-c", &starts]).env("unclosed", env!("CARGO_BIN_EXE_unclosed")).done().ok();
}

#[test]
fn a_grandchild_that_no_tick_saw_is_seen_at_its_end() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let (folder, (port, _server)) = (Folder::new(), server());
    let file = folder.file("r.unclosed");
    let leaks = client(port, 1, "");
    // The baseline and the last tick are all that an interval of an hour has.
    let nested = format!("import subprocess, sys\nsubprocess.run([sys.executable, '-c', {leaks:?}], check=True)");
    judged("--every 1h", &file, &nested).done().code(3);
    assert_eq!(leaked_of(&shown(&file)).len(), 1);
}

#[test]
fn one_that_a_signal_kills_has_left_nothing() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let (folder, (port, _server)) = (Folder::new(), server());
    let killed = client(port, 2, "os.kill(os.getpid(), 9)");
    let nested = format!("import subprocess, sys\nsubprocess.run([sys.executable, '-c', {killed:?}])");
    judged("", &folder.file("r"), &nested).done().ok();
}

#[test]
fn without_privilege_what_may_have_been_closed_is_undecided() {
    if !is_root() || !has("python3") || !has("setpriv") {
        skip!("it takes root, python3 and setpriv");
    }
    let (folder, (port, _server)) = (Folder::new(), server());
    let program = folder.program_for_all();
    let run = |name: &str, rest: &str| {
        let words: Vec<&str> = AS_NOBODY.split(' ').collect();
        let output = format!("--output={}", folder.file(name).display());
        Run::program(words[0], &words[1..])
            .file(&program)
            .and("run --fail-on-leak --every 50ms")
            .and(&output)
            .and("-- /usr/bin/python3 -c")
            .and_whole(&client(port, 1, rest))
            .done()
    };
    if !std::path::Path::new("/usr/bin/python3").exists() {
        skip!("there is no python3 that anybody may run");
    }
    run("a", "time.sleep(1)").code(4).complains(&["maybe closed before its end", "CAP_BPF"]);
    run("b", "open[0].close()\ntime.sleep(1)").ok();
}
