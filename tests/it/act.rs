//! The words that the cases are written in: run a program to its end, or start it and wait for what it says.
//!
//! Every wait has a bound, ends with the event it waits for, and says what it waited for when that doesn't come.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes here, even on a busy machine; a wait that ends so has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Before a command that root runs as somebody who may do nothing special.
pub(crate) const AS_NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";

/// Says aloud that a case can't be run here, and why, and ends it.
macro_rules! skip {
    ($($why:tt)*) => {{
        $crate::act::say_skipped(&format!($($why)*));
        return;
    }};
}
pub(crate) use skip;

/// Past the harness, which keeps to itself what a case that doesn't fail prints.
pub(crate) fn say_skipped(why: &str) {
    let case = thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "{case} skipped: {why}");
}

/// A program that is about to be run.
pub(crate) struct Run {
    command: Command,
    stdin: Option<String>,
}

impl Run {
    /// `unclosed` with these arguments, blanks between them: `Run::it("list -p 3136")`.
    pub(crate) fn it(arguments: impl AsRef<str>) -> Self {
        Run::new(arguments.as_ref().split_ascii_whitespace())
    }

    /// `unclosed` with these arguments.
    pub(crate) fn new<T: AsRef<OsStr>>(arguments: impl IntoIterator<Item = T>) -> Self {
        Run::program(env!("CARGO_BIN_EXE_unclosed"), arguments)
    }

    /// Any other program.
    pub(crate) fn program<T: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = T>) -> Self {
        let mut command = Command::new(program);
        // Recordings that are given no name don't end up in the home of whoever runs the tests.
        command.args(arguments).env("XDG_STATE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/state"));
        Run { command, stdin: None }
    }

    /// A shell's command, with `$unclosed` for the program.
    pub(crate) fn shell(line: &str) -> Self {
        Run::program("sh", ["-c", line]).env("unclosed", env!("CARGO_BIN_EXE_unclosed"))
    }

    /// Further arguments, blanks between them.
    pub(crate) fn and(mut self, arguments: &str) -> Self {
        self.command.args(arguments.split_ascii_whitespace());
        self
    }

    /// One further argument, blanks and all.
    pub(crate) fn and_whole(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// `--output FILE`.
    pub(crate) fn output(mut self, file: &Path) -> Self {
        self.command.arg("--output").arg(file);
        self
    }

    /// A file as a further argument.
    pub(crate) fn file(mut self, file: &Path) -> Self {
        self.command.arg(file);
        self
    }

    /// Files as further arguments.
    pub(crate) fn files(mut self, files: &[PathBuf]) -> Self {
        self.command.args(files);
        self
    }

    pub(crate) fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it reads; without it, nothing, until the case ends.
    pub(crate) fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.to_owned());
        self
    }

    /// Runs it to its end.
    pub(crate) fn done(self) -> Done {
        self.start().done()
    }

    /// Starts it. It is killed where the case ends before it does.
    pub(crate) fn start(mut self) -> Running {
        let words = format!("{:?}", self.command);
        let piped = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|error| panic!("{words} does not start: {error}"));
        let mut stdin = child.stdin.take();
        if let Some(text) = self.stdin {
            // A program that doesn't read it all has its reasons.
            let _ = stdin.take().unwrap().write_all(text.as_bytes());
        }
        let (send, lines) = sync_channel(1 << 20);
        read_lines(child.stdout.take().unwrap(), send.clone(), |line| Line { out: line, err: String::new() });
        read_lines(child.stderr.take().unwrap(), send, |line| Line { out: String::new(), err: line });
        Running { words, child, stdin, lines, out: String::new(), err: String::new() }
    }
}

/// A line with its end, of one of the two streams.
struct Line {
    out: String,
    err: String,
}

fn read_lines(stream: impl Read + Send + 'static, send: SyncSender<Line>, line: fn(String) -> Line) {
    let mut stream = BufReader::new(stream);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        while stream.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            if send.send(line(String::from_utf8_lossy(&bytes).into_owned())).is_err() {
                break;
            }
            bytes.clear();
        }
    });
}

/// A program that runs.
pub(crate) struct Running {
    words: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    out: String,
    err: String,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of its stdout that contains `text`.
    pub(crate) fn line(&mut self, text: &str) -> String {
        self.line_that(&format!("a line with {text:?}"), |line| line.contains(text))
    }

    /// Waits for a line of its stdout of which that is true, from here on.
    pub(crate) fn line_that(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.wait(what, |line| &line.out, wanted)
    }

    /// Waits for a line of its stderr that contains `text`, or finds it among those that came already.
    pub(crate) fn complaint(&mut self, text: &str) -> String {
        if let Some(line) = self.err.lines().find(|line| line.contains(text)) {
            return line.to_owned();
        }
        self.wait(&format!("{text:?} on stderr"), |line| &line.err, |line| line.contains(text))
    }

    fn wait(&mut self, what: &str, stream: fn(&Line) -> &String, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let Ok(line) = self.next(until) else {
                panic!("{} did not say {what}; it said:\n{}{}", self.words, self.out, self.err)
            };
            let text = stream(&line).trim_end_matches('\n');
            if !text.is_empty() && wanted(text) {
                return text.to_owned();
            }
        }
    }

    fn next(&mut self, until: Instant) -> Result<Line, RecvTimeoutError> {
        let line = self.lines.recv_timeout(until.saturating_duration_since(Instant::now()))?;
        self.out.push_str(&line.out);
        self.err.push_str(&line.err);
        Ok(line)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{signal:?} to {}: {error}", self.words));
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(self) -> Done {
        self.signal(Signal::INT);
        self.done()
    }

    /// Waits for its end.
    pub(crate) fn done(mut self) -> Done {
        drop(self.stdin.take());
        let until = Instant::now() + PATIENCE;
        let ended = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > until {
                break None;
            }
            // Its output ends with it, and that wakes us; one that has handed its output on doesn't.
            if let Err(RecvTimeoutError::Disconnected) = self.next(Instant::now() + Duration::from_millis(20)) {
                thread::sleep(Duration::from_millis(2));
            }
        };
        // What is left in the pipes, to their ends. Children of its own that live on may hold them open.
        let until = Instant::now() + PATIENCE / 6;
        while self.next(until).is_ok() {}
        let Some(status) = ended else { panic!("{} did not end; it said:\n{}{}", self.words, self.out, self.err) };
        let (code, signal) = (status.code(), status.signal());
        let (out, err) = (std::mem::take(&mut self.out), std::mem::take(&mut self.err));
        Done { words: self.words.clone(), code, signal, out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What has ended needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that has ended, and what it said.
pub(crate) struct Done {
    words: String,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// It ended well.
    pub(crate) fn ok(self) -> Self {
        self.code(0)
    }

    /// It ended with this code, and never by a panic.
    pub(crate) fn code(self, expected: i32) -> Self {
        let Done { words, code, signal, out, err } = &self;
        assert!(!err.contains("panicked"), "{words}:\n{err}");
        assert_eq!(*code, Some(expected), "{words} (signal {signal:?}) said:\n{out}{err}");
        self
    }

    /// It failed with this code, a sentence that has all of `parts`, and what mends it.
    pub(crate) fn fails(self, code: i32, parts: &[&str]) -> Self {
        let done = self.code(code);
        assert!(done.err.contains("error: ") && done.err.contains("fix: "), "{}: no fix in:\n{}", done.words, done.err);
        done.complains(parts)
    }

    /// It said all of these on stderr.
    pub(crate) fn complains(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.err.contains(part), "{}: no {part:?} in:\n{}", self.words, self.err);
        }
        self
    }

    /// It said all of these on stdout.
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.out.contains(part), "{}: no {part:?} in:\n{}", self.words, self.out);
        }
        self
    }

    /// Its stdout, one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{}: {error} in:\n{}", self.words, self.out))
    }

    /// The lines of its stdout as `unix_time,value`, and nothing else among them.
    pub(crate) fn points(&self) -> Vec<(f64, f64)> {
        points(&self.out)
    }
}

/// Lines of `unix_time,value`.
pub(crate) fn points(text: &str) -> Vec<(f64, f64)> {
    let number = |text: &str| text.parse().ok();
    let point = |line: &str| line.split_once(',').and_then(|(at, value)| Some((number(at)?, number(value)?)));
    text.lines().map(|line| point(line).unwrap_or_else(|| panic!("no unix_time,value: {line:?}"))).collect()
}

/// What `show FILE -o json` says.
pub(crate) fn shown(file: &Path) -> Value {
    Run::new(["show".as_ref(), file.as_os_str(), "-o".as_ref(), "json".as_ref()]).done().ok().json()
}

/// Waits until a recording that grows is judged a leak and calls at least so many connections leaked; tells how it stands.
pub(crate) fn leak_in(file: &Path, at_least: usize) -> Value {
    let end = Instant::now() + 2 * PATIENCE;
    loop {
        let report = shown(file);
        if report["verdict"]["kind"] == "leak" && leaked_of(&report).len() >= at_least {
            return report;
        }
        assert!(Instant::now() < end, "{at_least} leaked are wanted, and this is said: {:#}", report["verdict"]);
        thread::sleep(Duration::from_millis(500));
    }
}

/// The resources that a report calls leaked.
pub(crate) fn leaked_of(report: &Value) -> Vec<&Value> {
    report["resources"].as_array().unwrap().iter().filter(|it| it["leaked"] == true).collect()
}

/// A folder that vanishes with the case.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A file in it with that text.
    pub(crate) fn with(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A copy of the program that anybody may run, in this folder, where anybody may write from now on: the one it is built
    /// in may be closed to others.
    pub(crate) fn program_for_all(&self) -> PathBuf {
        std::fs::set_permissions(self.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let copy = self.file("unclosed");
        std::fs::copy(env!("CARGO_BIN_EXE_unclosed"), &copy).unwrap();
        copy
    }
}

/// Waits until that is there: looked for again and again, for what tells nobody that it has come.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match look() {
            Some(found) => return found,
            None if Instant::now() > end => panic!("waited in vain for {what}"),
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// True where we are root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// True where a program of that name is there.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}
