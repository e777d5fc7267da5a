//! `run`: starts a command, follows its children, judges at its end.

use super::args::{RunArgs, Selector};
use super::error::{Failure, exit};
use super::options::{self, SamplingOptions};
use super::session::Session;
use super::wake::{Schedule, Wake};
use super::{called_as, talk};
use crate::model::{Allowance, CommandRun, Verdict};
use crate::present::live::Silent;
use crate::present::text;
use crate::sample::ProcFs;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::signal::SIGCHLD;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// A test is over in seconds.
const EVERY_DEFAULT: Duration = Duration::from_millis(250);

/// `unclosed run`.
pub(crate) fn run(typed: &RunArgs) -> Result<u8, Failure> {
    let options = SamplingOptions::of(&typed.sampling, EVERY_DEFAULT)?;
    let Some((program, arguments)) = typed.command.split_first() else {
        return Err(Failure::usage("run needs a command").hint("unclosed run -- ./test-suite"));
    };
    let settle_time = options::duration("--settle", &typed.settle)?;
    let allowed = typed.allow.iter().map(|text| allowance(text)).collect::<Result<_, _>>()?;
    let run = CommandRun { settle_seconds: settle_time.as_secs_f64(), allowed, ..CommandRun::default() };
    let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
    let file = typed.sampling.output.clone().map_or_else(|| options::default_recording(&name, None), Ok)?;
    // Before the command starts, so that none of its signals is missed and a recording that can't be is told first.
    let mut schedule = Schedule::start(options.every, true)?;
    let proc = ProcFs::system();
    let nobody = options::target(&proc, &Selector { children: true, ..Selector::default() })?;
    let recording = Session::create_recording(&file, &options, &name)?;
    let mut session = Session::new(&options, nobody, &name, true, Some(recording), "")?;
    if typed.fail_on_leak {
        // Before the command starts, so that what it inherits is none of its own.
        session.begin_command(run);
        session.tick(&mut Silent)?;
    }
    let child = Command::new(program).args(arguments).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            session.discard()?;
            // As shells have it: 127 where there is no such command, 126 where it can't be run.
            let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            let failure = Failure::new(format!("cannot run {}: {error}", program.to_string_lossy()));
            return Err(Failure { code, ..failure });
        }
    };
    session.command_has_started(child.id());
    let status = follow(&mut session, &mut schedule, &mut child)?;
    if typed.fail_on_leak {
        settle(&mut session, &mut schedule, settle_time)?;
    }
    let (report, owed) = session.finish();
    let mut summary = Vec::new();
    text::summary(&mut summary, &report)?;
    talk(String::from_utf8_lossy(&summary).trim_end());
    let file = file.display();
    talk(&format!("Recording: {file}\nNext:      {} show {file}", called_as()));
    if owed > 0 {
        talk(&format!("{owed} ticks are not in the recording: it could not be written."));
    }
    if !status.success() {
        return Ok(code_of(status));
    }
    Ok(match report.verdict().map(|finding| finding.kind) {
        Some(Verdict::Leak | Verdict::Plateau) if typed.fail_on_leak => exit::LEAK,
        Some(Verdict::Undecided) | None if typed.fail_on_leak => exit::UNDECIDED,
        _ => exit::FINE,
    })
}

/// Ticks until the command ends. Signals go on to it, but for those that a terminal has sent it already.
fn follow(session: &mut Session, schedule: &mut Schedule, child: &mut Child) -> Result<ExitStatus, Failure> {
    let pid = Pid::from_child(child);
    loop {
        match schedule.wait() {
            Wake::Signal { number: SIGCHLD, .. } | Wake::Ended => {
                if let Some(status) = child.try_wait()? {
                    // What it left behind at its end, and who runs on.
                    session.command_has_ended();
                    session.tick(&mut Silent)?;
                    return Ok(status);
                }
            }
            // A terminal's keys reach everyone in the foreground: the command has had it already.
            Wake::Signal { by_terminal: true, .. } => {}
            Wake::Signal { number, .. } => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    // It may have ended just now, which SIGCHLD tells.
                    let _ = kill_process(pid, signal);
                }
            }
            Wake::Tick | Wake::Over => {
                session.tick(&mut Silent)?;
                schedule.set_every(session.every());
            }
        }
    }
}

/// Looks again at what outlives the command, until nothing does or the time is over.
fn settle(session: &mut Session, schedule: &mut Schedule, time: Duration) -> Result<(), Failure> {
    let until = Instant::now() + time;
    schedule.set_every(session.every().min(time));
    loop {
        match schedule.wait() {
            Wake::Tick | Wake::Over => {
                if !session.tick(&mut Silent)? || Instant::now() >= until {
                    return Ok(());
                }
            }
            Wake::Signal { number: SIGCHLD, .. } | Wake::Ended => {}
            // Whoever is at the terminal has waited enough.
            Wake::Signal { .. } => return Ok(()),
        }
    }
}

fn allowance(text: &str) -> Result<Allowance, Failure> {
    Allowance::parse(text).map_err(|why| {
        let hint = "write it as 'tcp:5432<=5', 'tcp:10.0.0.5:5432<=5', 'unix:/run/db.sock<=2' or 'unix<=3'";
        Failure::usage(format!("--allow {text:?}: {why}")).hint(hint)
    })
}

/// The code a shell gives: the command's own, or 128 and the signal that killed it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
