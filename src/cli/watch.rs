//! `watch` and `record`: a running process, or a number, until it ends, the time is over or Ctrl-C.

use super::args::{RecordArgs, Sampling, Selector, WatchArgs};
use super::error::{Failure, exit};
use super::options::{self, EVERY_DEFAULT, SamplingOptions};
use super::session::{End, Session};
use super::wake::Schedule;
use super::{is_watched_by_a_person, talk};
use crate::model::{Address, Report, duration_words};
use crate::present::live::{CsvLines, Live, PlainLines, Screen, Silent};
use crate::present::text;
use crate::sample::{Metric, ProcFs, Resolver};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `unclosed watch`.
pub(crate) fn watch(typed: &WatchArgs) -> Result<u8, Failure> {
    let shown = match (&typed.series, typed.sampling.metric.as_slice()) {
        (Some(series), _) => series.clone(),
        (None, [metric]) if selects_nothing(&typed.selector) => metric.clone(),
        // What the recipe counted, for its log; what people ask for, for the chart.
        (None, _) if typed.format.is_some() => "internet".to_owned(),
        (None, _) => "connections".to_owned(),
    };
    let form = match typed.format {
        Some(_) => Form::Csv,
        None if is_watched_by_a_person() => Form::Screen { resolve: typed.resolve },
        None => Form::Lines,
    };
    follow(&typed.selector, &typed.sampling, typed.duration.as_deref(), typed.output.clone(), form, &shown)
}

/// `unclosed record`.
pub(crate) fn record(typed: &RecordArgs) -> Result<u8, Failure> {
    let shown = "connections";
    follow(&typed.selector, &typed.sampling, typed.duration.as_deref(), typed.output.clone(), Form::Silent, shown)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Screen { resolve: bool },
    Lines,
    Csv,
    Silent,
}

fn selects_nothing(selector: &Selector) -> bool {
    selector.pid.is_empty() && selector.command.is_empty()
}

fn follow(
    selector: &Selector,
    sampling: &Sampling,
    length: Option<&str>,
    file: Option<PathBuf>,
    form: Form,
    shown: &str,
) -> Result<u8, Failure> {
    let options = SamplingOptions::of(sampling, EVERY_DEFAULT)?;
    let length = length.map(|text| options::duration("--for", text)).transpose()?;
    if selects_nothing(selector) && options.metrics.is_empty() {
        return Err(Failure::usage("nothing to watch: name a process, or a number to take")
            .hint("unclosed watch -p PID, or unclosed watch --metric disk:PATH"));
    }
    let proc = ProcFs::system();
    let mut target = options::target(&proc, selector)?;
    target.check_access()?;
    let members = target.members();
    let follows = !selects_nothing(selector);
    if follows && members.is_empty() {
        return Err(Failure::no_target("the process ended before anything was seen"));
    }
    let name = match members.first() {
        Some(first) => proc.process(first)?.name,
        None => options.metrics.first().map(Metric::series).unwrap_or_default(),
    };
    let pid = members.first().map(|first| first.pid);
    let named = file.is_some();
    let file = file.map_or_else(|| options::default_recording(&name, pid), Ok);
    let begin = |target, file: Option<&Path>| Session::new(&options, target, &name, follows, file, shown);
    let mut session = match file.and_then(|file| begin(target, Some(file.as_path()))) {
        // A home that can't be written is no reason not to look; a file that was named is.
        Err(failure) if !named && form != Form::Silent => {
            talk(&format!("unclosed: {}; nothing is recorded. --output FILE records elsewhere.", failure.message));
            begin(options::target(&proc, selector)?, None)?
        }
        made => made?,
    };
    let recorded = session.file().map(Path::to_path_buf);
    let mut schedule = Schedule::start(options.every, false)?;
    schedule.end_after(length);
    for member in &members {
        schedule.watch_end(member.pid);
    }
    introduce(&session, &name, pid, &options, form);
    let mut live: Box<dyn Live> = match form {
        Form::Silent => Box::new(Silent),
        Form::Csv => Box::new(CsvLines { out: io::stdout(), fractions: options.every < Duration::from_secs(1) }),
        Form::Lines => Box::new(PlainLines::new(io::stdout())),
        Form::Screen { resolve } => {
            let address = address_writer(resolve);
            let place = recorded.as_ref().map_or_else(|| "nowhere".to_owned(), |file| file.display().to_string());
            Box::new(Screen::new(io::stdout(), Box::new(terminal_size), place, address))
        }
    };
    let ended = session.follow(&mut schedule, live.as_mut(), |_| false);
    live.end()?;
    drop(live);
    if follows && session.report().target.as_ref().is_none_or(|target| target.processes.is_empty()) {
        session.discard()?;
        return Err(Failure::no_target(format!("{name} ended before anything was seen")));
    }
    let (report, owed) = session.finish();
    conclude(&report, recorded.as_deref(), owed, form)?;
    match ended {
        // Whoever read the lines has gone: fine.
        Err(failure) if failure.code != exit::FINE => Err(failure),
        _ if owed > 0 => Ok(exit::ERROR),
        Ok(End::Signal(_) | End::Target | End::Time) | Err(_) => Ok(exit::FINE),
    }
}

/// Says what is watched, how, and what the recording will take.
fn introduce(session: &Session, name: &str, pid: Option<u32>, options: &SamplingOptions, form: Form) {
    let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    let every = duration_words(options.every.as_secs_f64());
    let source = if pid.is_empty() { String::new() } else { format!(", sampled from {}", session.source()) };
    talk(&format!("Watching {name}{pid} every {every}{source}."));
    if let Some(file) = session.file() {
        let size = text::bytes(Session::bytes_per_hour(options.every));
        talk(&format!(
            "Recording to {}, some {size} an hour and more where many connections come and go.",
            file.display()
        ));
    }
    if !matches!(form, Form::Screen { .. }) {
        talk("Ctrl-C ends it and prints the summary.");
    }
}

/// The summary and the next command. On stderr where stdout holds data.
fn conclude(report: &Report, file: Option<&Path>, owed: u64, form: Form) -> Result<(), Failure> {
    let mut summary = Vec::new();
    text::summary(&mut summary, report)?;
    if let Some(file) = file {
        let file = file.display();
        summary.extend(
            format!("\nRecording: {file}\nNext:      unclosed show {file}\n           unclosed view {file}\n").bytes(),
        );
    }
    if owed > 0 {
        summary.extend(format!("{owed} ticks are not in the recording: it could not be written.\n").bytes());
    }
    let summary = String::from_utf8_lossy(&summary);
    match form {
        Form::Csv | Form::Silent => talk(summary.trim_end()),
        Form::Screen { .. } | Form::Lines => {
            use std::io::Write;
            // Whoever read our lines may have gone by now.
            match io::stdout().write_all(summary.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Writes addresses as numbers, or by the names that are known by now: a tick never waits for one.
fn address_writer(resolve: bool) -> Box<dyn FnMut(&Address) -> String> {
    if !resolve {
        return Box::new(ToString::to_string);
    }
    let mut names = Resolver::start();
    Box::new(move |address| {
        names.request(address);
        names.wait(Duration::ZERO);
        names.name(address)
    })
}

/// The terminal's columns and rows; 80 by 24 where it doesn't say.
fn terminal_size() -> (usize, usize) {
    rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .filter(|size| size.ws_col > 0 && size.ws_row > 0)
        .map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
}
