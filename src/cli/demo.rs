//! `demo`: a built-in program that leaks, watched as a stranger's would be.
//!
//! Two processes on loopback: a server that answers a line with a line, and its client, a little order service. Most of
//! its requests open a connection, ask, and close it; some go over a pool of three that are kept; one code path, the
//! export of a report, forgets to close.

use super::args::{DemoArgs, DemoProgramArgs};
use super::error::{Failure, exit};
use super::options::{self, SamplingOptions};
use super::session::Session;
use super::view::{free_name, write_page};
use super::wake::Schedule;
use super::{called_as, talk};
use crate::ledger::{LedgerOptions, SendHook};
use crate::model::{Report, Verdict};
use crate::present::live::Live;
use crate::present::replay::Replay;
use crate::present::text::{self, Shown};
use crate::sample::{ProcFs, Source, TargetProcesses};
use crate::store::Retention;
use crate::store::input::InputOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Ticks of the demo: close enough that it is over soon.
const EVERY: Duration = Duration::from_millis(500);
/// A line on the screen every so many ticks.
const TICKS_PER_LINE: u64 = 4;

/// `unclosed demo`.
pub(crate) fn run(typed: &DemoArgs) -> Result<u8, Failure> {
    let length = options::duration("--for", &typed.duration)?;
    let (_server, port) = start(None)?;
    let (client, _) = start(Some(port))?;
    let pid = client.0.id();
    let file = typed.output.clone().map_or_else(|| options::default_recording("demo", Some(pid)), Ok)?;
    talk(&format!(
        "A client (pid {pid}) and a server on 127.0.0.1:{port} are running. The client asks, answers and closes;"
    ));
    talk("one of its code paths forgets to close. The same as: unclosed watch -p PID");
    talk("");
    let options = SamplingOptions {
        every: EVERY,
        metrics: Vec::new(),
        source: Source::Auto,
        retention: Retention::default(),
        on_leak: None,
        max_cost: None,
        ledger: Some(LedgerOptions {
            by_calls: false,
            with_children: false,
            send_hook: SendHook::Auto,
            show_literals: true,
        }),
    };
    let target = TargetProcesses::named(&ProcFs::system(), &[pid], false)?;
    let recording = Session::create_recording(&file, &options, "demo")?;
    let mut session = Session::new(&options, target, "demo", true, Some(recording), "connections")?;
    let mut schedule = Schedule::start(EVERY, false)?;
    schedule.end_after(Some(length));
    let mut lines = DemoLines { ticks: 0, said: None };
    session.follow(&mut schedule, &mut lines)?;
    drop(session.finish());
    drop(client);
    let replay = Replay::open(&file, InputOptions { lsof_header: false })?;
    let out = &mut io::stdout().lock();
    writeln!(out)?;
    text::report(out, &replay.report, Shown::default())?;
    let page = free_name(file.with_extension("html"));
    write_page(&replay, &file, &page)?;
    let (file, page) = (file.display(), page.display());
    writeln!(out, "\nRecording: {file}\nPage:      {page}")?;
    let program = called_as();
    writeln!(out, "Next:      {program} show {file} --leaked\n           {program} view {file}")?;
    writeln!(out, "           {program} watch -p PID     on a process of yours")?;
    Ok(exit::FINE)
}

/// A line every other second with a bar, and the verdict when it changes.
struct DemoLines {
    ticks: u64,
    said: Option<Verdict>,
}

impl Live for DemoLines {
    fn tick(&mut self, report: &Report, value: Option<f64>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let connections = value.unwrap_or(0.0);
        if self.ticks.is_multiple_of(TICKS_PER_LINE) {
            let leaked = report.judged.leak_probability.keys().filter(|id| report.judged.is_leaked(**id)).count();
            let healthy = (connections as usize).saturating_sub(leaked);
            let bar = format!("{}{}", "█".repeat(leaked), "░".repeat(healthy));
            let seconds = report.to.seconds_since(report.from);
            writeln!(out, "{seconds:>5.0} s {connections:>4.0} connections, {leaked:>3} leaked  {bar}")?;
        }
        self.ticks += 1;
        if let Some(finding) = report.verdict().filter(|finding| self.said != Some(finding.kind)) {
            self.said = Some(finding.kind);
            writeln!(out, "        {}", text::headline(finding))?;
        }
        out.flush()
    }
}

/// A process of ours that ends with the demo.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // Its standard input closes with us, too; this is only sooner.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server, or the client of the server on `port`. Returns it with the port that it names.
fn start(port: Option<u16>) -> Result<(Program, u16), Failure> {
    let own =
        std::env::current_exe().map_err(|error| Failure::new(format!("cannot find the program itself: {error}")))?;
    let mut command = Command::new(own);
    command.arg("demo-program").stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(port) = port {
        command.args(["--connect", &port.to_string()]);
    }
    let mut child = command.spawn()?;
    let output: Option<ChildStdout> = child.stdout.take();
    let program = Program(child);
    let mut line = String::new();
    output.map(|output| BufReader::new(output).read_line(&mut line)).transpose()?;
    let port = line.trim().parse().map_err(|_| Failure::new("the demo's program did not start"))?;
    Ok((program, port))
}

/// `unclosed demo-program`: the server, or its client.
pub(crate) fn program(typed: &DemoProgramArgs) -> Result<u8, Failure> {
    // Whoever started us holds the other end of standard input: we don't outlive them.
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::abort();
    });
    match typed.connect {
        Some(port) => client(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?,
        None => server()?,
    }
    Ok(exit::FINE)
}

fn server() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    announce(listener.local_addr()?.port())?;
    for connection in listener.incoming() {
        let mut connection = connection?;
        thread::spawn(move || -> io::Result<()> {
            let mut questions = BufReader::new(connection.try_clone()?);
            let mut line = String::new();
            while questions.read_line(&mut line)? > 0 {
                connection.write_all(b"ok\n")?;
                line.clear();
            }
            Ok(())
        });
    }
    Ok(())
}

fn client(server: SocketAddr) -> io::Result<()> {
    announce(server.port())?;
    let pool = (0..3).map(|_| TcpStream::connect(server)).collect::<io::Result<Vec<_>>>()?;
    let begun = Instant::now();
    for round in 0u64.. {
        ask(&pool[(round % 3) as usize], "stock?\n")?;
        place_order(server, round);
        if round % 5 == 3 {
            export_report(server)?;
        }
        // On a grid, so that a busy machine does not slow the demo down.
        let next = begun + Duration::from_millis(200) * (round as u32 + 1);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Healthy: the connection lives for up to 1.5 s and is closed when it goes out of scope.
fn place_order(server: SocketAddr, round: u64) {
    thread::spawn(move || -> io::Result<()> {
        let connection = TcpStream::connect(server)?;
        ask(&connection, "order\n")?;
        thread::sleep(Duration::from_millis(100 + round * 397 % 1400));
        ask(&connection, "done?\n")
    });
}

/// The leak: the connection is used once and then forgotten, never closed.
fn export_report(server: SocketAddr) -> io::Result<()> {
    let connection = TcpStream::connect(server)?;
    ask(&connection, "report\n")?;
    std::mem::forget(connection);
    Ok(())
}

fn ask(mut connection: &TcpStream, question: &str) -> io::Result<()> {
    connection.write_all(question.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(connection).read_line(&mut answer).map(|_| ())
}

fn announce(port: u16) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{port}")?;
    out.flush()
}
