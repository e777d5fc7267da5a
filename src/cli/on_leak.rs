//! `--on-leak CMD`: runs a command once for each change of the verdict from or to a leak, with the finding on its stdin.
//!
//! The command runs beside the watch, on a thread, for no tick may wait for it. No shell is between: what stands in the
//! finding is never a part of a command line.

use super::error::Failure;
use crate::model::{Report, Verdict};
use crate::present::json;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, MemfdFlags, access, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a run may take: a message is sent or a ticket opened in less; then it is killed with what it started.
const LIMIT: Duration = Duration::from_secs(10);

/// Changes that wait for their run; the end of the watch waits for these.
const WAITING_MAX: usize = 2;

/// A command that is there, as words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeakCommand {
    words: Vec<String>,
}

impl LeakCommand {
    /// Splits it as a shell would, and fails where there is no such program.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let hint = "it is run without a shell, for one write --on-leak \"sh -c '...'\"";
        let Some(words) = shlex::split(text) else {
            return Err(Failure::usage(format!("--on-leak {text:?}: a quote is not closed")).hint(hint));
        };
        let Some(program) = words.first().filter(|program| !program.is_empty()) else {
            return Err(Failure::usage("--on-leak names no command").hint(hint));
        };
        if !is_program(program) {
            return Err(
                Failure::usage(format!("--on-leak: there is no program {program:?} that we may run")).hint(hint)
            );
        }
        Ok(LeakCommand { words })
    }
}

/// True where `execvp` would find it.
fn is_program(program: &str) -> bool {
    let runs = |path: PathBuf| path.is_file() && access(&path, Access::EXEC_OK).is_ok();
    if program.contains('/') {
        return runs(PathBuf::from(program));
    }
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| runs(folder.join(program)))
}

/// The runs of one watch.
#[derive(Debug)]
pub(crate) struct OnLeak {
    /// The verdict at the last look.
    previous: Option<Verdict>,
    jobs: Option<SyncSender<String>>,
    worker: Option<JoinHandle<()>>,
    complaints: Receiver<String>,
    dropped: Vec<String>,
}

impl OnLeak {
    /// Nothing runs before the verdict changes.
    pub(crate) fn start(command: LeakCommand) -> Self {
        OnLeak::with_limit(command, LIMIT)
    }

    fn with_limit(command: LeakCommand, limit: Duration) -> Self {
        let (send, jobs) = sync_channel::<String>(WAITING_MAX);
        let (complain, complaints) = channel();
        let worker = thread::spawn(move || {
            for finding in jobs {
                if let Err(why) = run(&command, &finding, limit)
                    && complain.send(format!("--on-leak {}: {why}", command.words[0])).is_err()
                {
                    break;
                }
            }
        });
        OnLeak { previous: None, jobs: Some(send), worker: Some(worker), complaints, dropped: Vec::new() }
    }

    /// Takes the verdict as it stands; runs the command where it has changed from or to a leak.
    pub(crate) fn judged(&mut self, report: &Report) {
        let Some(now) = report.verdict().map(|finding| finding.kind) else { return };
        let previous = self.previous.replace(now);
        let leaks = |kind: Verdict| matches!(kind, Verdict::Leak | Verdict::Plateau);
        if previous == Some(now) || !(leaks(now) || previous.is_some_and(leaks)) {
            return;
        }
        let finding = json::verdict_change(report, previous).to_string();
        if self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(finding).is_err()) {
            let word = now.word();
            self.dropped.push(format!("--on-leak: no run for the change to {word}: {WAITING_MAX} others wait already"));
        }
    }

    /// What has failed since the last call.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        self.dropped.drain(..).chain(self.complaints.try_iter()).collect()
    }

    /// Waits for the runs that are owed, each within its limit, and tells what has failed.
    pub(crate) fn finish(mut self) -> Vec<String> {
        drop(self.jobs.take());
        if let Some(worker) = self.worker.take() {
            // A thread that panicked has said so itself.
            let _ = worker.join();
        }
        self.complaints()
    }
}

/// Runs the command to its end. Says why where it did not end well.
fn run(command: &LeakCommand, finding: &str, limit: Duration) -> Result<(), String> {
    let failed = |what: &str, error: io::Error| format!("{what}: {error}");
    let [program, arguments @ ..] = command.words.as_slice() else { return Ok(()) };
    let stderr = || io::stderr().as_fd().try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(input(finding).map_err(|error| failed("the finding can't be handed over", error))?)
        // Standard output is for data, and ours alone.
        .stdout(stderr())
        .stderr(stderr())
        // A group of its own: Ctrl-C ends the watch and not it, and the limit ends all that it started.
        .process_group(0)
        .spawn()
        .map_err(|error| failed("it can't be started", error))?;
    let ended = wait(&child, limit);
    if !matches!(ended, Ok(true)) {
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    }
    let status = child.wait().map_err(|error| failed("it can't be waited for", error))?;
    match (ended, status.code(), status.signal()) {
        (Ok(false), _, _) => Err(format!("killed, for it took more than {} s", limit.as_secs_f64())),
        (Err(error), _, _) => Err(failed("it can't be waited for", error)),
        (_, Some(0), _) => Ok(()),
        (_, Some(code), _) => Err(format!("it ended with exit code {code}")),
        (_, None, signal) => Err(format!("it was ended by signal {}", signal.unwrap_or(0))),
    }
}

/// A text to read: a file in memory, so that a command that doesn't read holds nobody up.
fn input(text: &str) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create("finding", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

/// Whether it ends within the limit.
fn wait(child: &Child, limit: Duration) -> io::Result<bool> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let until = std::time::Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Finding;
    use std::time::Instant;

    fn report(kind: Verdict) -> Report {
        let mut report = Report { file: "r.unclosed".into(), ..Report::default() };
        report.judged.findings.push(Finding::new(kind, "tcp 10.0.0.1:1", "it \"leaks\"\n"));
        report
    }

    fn shell(line: &str) -> LeakCommand {
        LeakCommand::parse(&format!("sh -c {}", shlex::try_quote(line).expect("no NUL"))).expect("sh is there")
    }

    #[test]
    fn it_runs_once_for_each_change_from_or_to_a_leak() {
        use Verdict::{Clean, Leak, Plateau, Undecided};
        let folder = tempfile::tempdir().expect("a scratch folder");
        let file = folder.path().join("findings");
        let mut on_leak = OnLeak::start(shell(&format!("cat >> {0}; echo >> {0}", file.display())));
        let ran = |changes: usize| {
            let end = Instant::now() + Duration::from_secs(60);
            while std::fs::read_to_string(&file).unwrap_or_default().lines().count() < changes {
                assert!(Instant::now() < end, "{changes} runs");
                thread::yield_now();
            }
        };
        let mut changes = 0;
        for (kind, runs) in [
            (Undecided, false),
            (Clean, false),
            (Undecided, false),
            (Leak, true),
            (Leak, false),
            (Clean, true),
            (Undecided, false),
            (Plateau, true),
            (Leak, true),
        ] {
            on_leak.judged(&report(kind));
            changes += usize::from(runs);
            ran(changes);
        }
        assert_eq!(on_leak.finish(), [""; 0]);
        let text = std::fs::read_to_string(&file).expect("was written");
        let found: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let told: Vec<_> = found.iter().map(|it| (it["previous"].as_str(), it["kind"].as_str())).collect();
        let (leak, clean, undecided, plateau) = (Some("leak"), Some("clean"), Some("undecided"), Some("plateau"));
        assert_eq!(told, [(undecided, leak), (leak, clean), (undecided, plateau), (plateau, leak)]);
        assert_eq!((&found[0]["schema"], &found[0]["file"]), (&"unclosed/1".into(), &"r.unclosed".into()));
        assert_eq!(found[0]["sentence"], "it \"leaks\"\n");
    }

    #[test]
    fn what_takes_too_long_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let file = folder.path().join("pid");
        let line = format!("sleep 3600 & echo $! > {}; wait", file.display());
        let mut on_leak = OnLeak::with_limit(shell(&line), Duration::from_secs(1));
        on_leak.judged(&report(Verdict::Leak));
        let complaints = on_leak.finish();
        assert!(complaints.len() == 1 && complaints[0].contains("killed, for it took more than 1 s"), "{complaints:?}");
        let pid: u32 = std::fs::read_to_string(&file).expect("was written").trim().parse().expect("a pid");
        let state = || crate::sample::ProcFs::system().stat(pid).map(|stat| stat.state);
        let end = Instant::now() + Duration::from_secs(60);
        while !matches!(state(), Err(_) | Ok('Z')) {
            assert!(Instant::now() < end, "{:?}", state());
            thread::yield_now();
        }
    }

    #[test]
    fn a_failure_is_told_once_and_what_finds_no_room_too() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let gate = folder.path().join("gate");
        // Each waits for the gate, reads nothing and fails.
        let line = format!("while ! test -e {}; do sleep 0.02; done; exit 3", gate.display());
        let mut on_leak = OnLeak::start(shell(&line));
        for kind in [Verdict::Leak, Verdict::Clean].into_iter().cycle().take(8) {
            on_leak.judged(&report(kind));
        }
        std::fs::write(gate, "").expect("written");
        let complaints = on_leak.finish();
        let count = |words: &str| complaints.iter().filter(|it| it.contains(words)).count();
        assert_eq!(count("no run for the change to") + count("exit code 3"), 8, "{complaints:?}");
        assert!((2..=3).contains(&count("exit code 3")), "{complaints:?}");
    }

    #[test]
    fn a_command_that_is_none_is_refused() {
        for (text, words) in [
            ("", "names no command"),
            ("'unclosed", "quote"),
            ("no-such-program-here x", "no program \"no-such-program-here\""),
            ("/etc/passwd", "/etc/passwd"),
        ] {
            let failure = LeakCommand::parse(text).expect_err(text);
            assert!(failure.message.contains(words) && failure.code == 2 && failure.hint.is_some(), "{failure:?}");
        }
        assert_eq!(LeakCommand::parse("sh -c 'a b' c\\ d").expect("sh").words, ["sh", "-c", "a b", "c d"]);
    }
}
