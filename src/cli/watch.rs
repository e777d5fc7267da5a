//! `watch` and `record`: a running process, or a number, until it ends, the time is over or Ctrl-C.

use super::args::{RecordArgs, Sampling, Selector, WatchArgs};
use super::error::{Failure, exit};
use super::options::{self, EVERY_DEFAULT, SamplingOptions};
use super::session::Session;
use super::wake::Schedule;
use super::{called_as, is_watched_by_a_person, talk, terminal_size};
use crate::model::{Address, Diagnosis, ProcessId, Report, Way, duration_words};
use crate::present::live::{CsvLines, Live, PlainLines, Screen, Silent};
use crate::present::{doctor, text};
use crate::sample::{Metric, ProcFs, Resolver, TargetProcesses, probe};
use std::io;
use std::path::Path;
use std::time::Duration;

/// `unclosed watch`.
pub(crate) fn watch(typed: &WatchArgs) -> Result<u8, Failure> {
    let form = match typed.format {
        Some(_) => Form::Csv,
        None if is_watched_by_a_person() => Form::Screen { resolve: typed.resolve },
        None => Form::Lines,
    };
    let shown = match (&typed.series, typed.sampling.metric.as_slice()) {
        (Some(series), _) => series.clone(),
        (None, [metric, ..]) if typed.selector.is_empty() => metric.clone(),
        // What the recipe counted, for its log; what people ask for, for the chart.
        (None, _) if form == Form::Csv => "internet".to_owned(),
        (None, _) => "connections".to_owned(),
    };
    let length = typed.duration.as_deref();
    follow(&Watching { selector: &typed.selector, sampling: &typed.sampling, length, form, shown })
}

/// `unclosed record`.
pub(crate) fn record(typed: &RecordArgs) -> Result<u8, Failure> {
    let (form, shown) = (Form::Silent, String::new());
    let length = typed.duration.as_deref();
    follow(&Watching { selector: &typed.selector, sampling: &typed.sampling, length, form, shown })
}

/// What was asked for, by either verb.
struct Watching<'a> {
    selector: &'a Selector,
    sampling: &'a Sampling,
    length: Option<&'a str>,
    form: Form,
    /// The series that a view plots or prints.
    shown: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Screen { resolve: bool },
    Lines,
    Csv,
    Silent,
}

fn follow(watching: &Watching) -> Result<u8, Failure> {
    let options = SamplingOptions::of(watching.sampling, EVERY_DEFAULT)?;
    let length = watching.length.map(|text| options::duration("--for", text)).transpose()?;
    if watching.selector.is_empty() && options.metrics.is_empty() {
        return Err(Failure::usage("nothing to watch: name a process, or a number to take")
            .hint("unclosed watch -p PID, or unclosed watch --metric disk:PATH"));
    }
    let proc = ProcFs::system();
    let mut target = options::target(&proc, watching.selector)?;
    let members = target.members();
    let follows = !watching.selector.is_empty();
    if follows && members.is_empty() {
        return Err(Failure::no_target("the process ended before anything was seen"));
    }
    let name = match members.first() {
        Some(first) => proc.process(first)?.name,
        None => options.metrics.first().map(Metric::series).unwrap_or_default(),
    };
    let mut session = open_session(watching, &options, target, &name, &members)?;
    // Before the clock starts: it takes a tick's time.
    let diagnosis = members.first().and_then(|first| probe(&proc, Some(first.pid)).ok());
    if let Some(short) = diagnosis.as_ref().and_then(doctor::short) {
        talk(&short);
    }
    let mut schedule = Schedule::start(options.every, false)?;
    schedule.end_after(length);
    schedule.watch_ends(members.iter().map(|member| member.pid));
    introduce(&session, &name, &members, diagnosis.as_ref(), &options, watching.form);
    let mut live = live_view(watching.form, &options, session.file());
    let ended = session.follow(&mut schedule, live.as_mut());
    live.end()?;
    drop(live);
    if follows && !session.has_seen_the_target() {
        session.discard()?;
        return Err(Failure::no_target(format!("{name} ended before anything was seen")));
    }
    let recorded = session.file().map(Path::to_path_buf);
    let (report, owed) = session.finish();
    conclude(&report, recorded.as_deref(), owed, watching.form)?;
    match ended {
        // Whoever read the lines has gone: fine.
        Err(failure) if failure.code != exit::FINE => Err(failure),
        _ if owed > 0 => Ok(exit::ERROR),
        _ => Ok(exit::FINE),
    }
}

/// A session with its recording. A state folder that can't be written is no reason not to look; a file that was named is.
fn open_session(
    watching: &Watching,
    options: &SamplingOptions,
    target: TargetProcesses,
    name: &str,
    members: &[ProcessId],
) -> Result<Session, Failure> {
    let (follows, shown) = (!members.is_empty(), watching.shown.as_str());
    let pid = members.first().map(|first| first.pid);
    let create = || {
        let file = watching.sampling.output.clone().map_or_else(|| options::default_recording(name, pid), Ok);
        file.and_then(|file| Session::create_recording(&file, options, name))
    };
    // Another watch of the same second may have taken the name: then the next one is free.
    let writer = create().or_else(|failure| if watching.sampling.output.is_none() { create() } else { Err(failure) });
    match writer {
        Err(failure) if watching.sampling.output.is_none() && watching.form != Form::Silent => {
            talk(&format!("unclosed: {}; nothing is recorded. --output FILE records elsewhere.", failure.message));
            Session::new(options, target, name, follows, None, shown)
        }
        writer => Session::new(options, target, name, follows, Some(writer?), shown),
    }
}

fn live_view(form: Form, options: &SamplingOptions, file: Option<&Path>) -> Box<dyn Live> {
    match form {
        Form::Silent => Box::new(Silent),
        Form::Csv => Box::new(CsvLines { out: io::stdout(), fractions: options.every < Duration::from_secs(1) }),
        Form::Lines => Box::new(PlainLines::new(io::stdout())),
        Form::Screen { resolve } => {
            let file = file.map_or_else(|| "nothing".to_owned(), |file| file.display().to_string());
            Box::new(Screen::new(io::stdout(), Box::new(terminal_size), file, address_writer(resolve)))
        }
    }
}

/// Says what is watched, how, and what the recording will take.
fn introduce(
    session: &Session,
    name: &str,
    members: &[ProcessId],
    diagnosis: Option<&Diagnosis>,
    options: &SamplingOptions,
    form: Form,
) {
    let pid = match members {
        [] => String::new(),
        [one] => format!(" (pid {})", one.pid),
        [first, more @ ..] => format!(" (pid {} and {} more)", first.pid, more.len()),
    };
    let every = duration_words(options.every.as_secs_f64());
    let is_closed = diagnosis.and_then(|it| it.target.as_ref()).is_some_and(|it| it.way == Way::Outside);
    let source = match members {
        [] => String::new(),
        // The first is closed to us, so the way that was taken tells others at the most.
        _ if is_closed => ", told by the socket tables, for its descriptors are closed to us".to_owned(),
        _ => format!(", sampled from {}", session.source()),
    };
    talk(&format!("Watching {name}{pid} every {every}{source}."));
    if let Some(openers) = session.openers() {
        talk(&sentence(openers));
    }
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

/// A clause as a sentence.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let end = if words.ends_with('.') { "" } else { "." };
    first.into_iter().chain(letters).chain(end.chars()).collect()
}

/// The summary and the next command. On stderr where stdout holds data.
fn conclude(report: &Report, file: Option<&Path>, owed: u64, form: Form) -> Result<(), Failure> {
    let mut summary = Vec::new();
    text::summary(&mut summary, report)?;
    if let Some(file) = file {
        let file = file.display();
        let program = called_as();
        let next = format!("\nRecording: {file}\nNext:      {program} show {file}\n           {program} view {file}\n");
        summary.extend(next.bytes());
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
