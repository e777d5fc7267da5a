//! Real interpreters of every version: what is read from outside is what they say of themselves.

mod events;

use super::*;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The versions that are known here.
const MINORS: std::ops::RangeInclusive<u32> = 8..=13;

/// A program that leaves when the test does.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a thread says of itself before it waits.
#[derive(Debug, serde::Deserialize)]
struct Said {
    case: String,
    thread: u32,
    frames: Vec<Row>,
}

/// Function, file and line.
type Row = (String, String, u32);

type Lines = Box<dyn Iterator<Item = Said>>;

/// The interpreters that are installed; which are not is said aloud.
fn interpreters() -> Vec<(u32, PathBuf)> {
    let home = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = home.and_then(|home| fs::read_dir(home.join("versions")).ok()).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let minor = entry.file_name().to_str()?.strip_prefix("3.")?.split('.').next()?.parse().ok()?;
            Some((minor, entry.path().join("bin/python3")))
        })
        .collect();
    let path = std::env::var("PATH").unwrap_or_default();
    found.extend(MINORS.flat_map(|minor| {
        path.split(':').map(move |folder| (minor, Path::new(folder).join(format!("python3.{minor}"))))
    }));
    // A shim is a script that may start another version.
    found.retain(|(minor, program)| {
        MINORS.contains(minor) && fs::read(program).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"))
    });
    for minor in MINORS.filter(|minor| found.iter().all(|(known, _)| known != minor)) {
        eprintln!("Python 3.{minor} skipped: it is not installed");
    }
    assert!(!found.is_empty(), "no Python at all");
    found
}

/// Starts the program with one case, and waits until as many threads of it as are asked for have said what they are at, and wait.
fn start(python: &Path, folder: &Path, case: &str, threads: usize) -> (Program, Process, Vec<Said>) {
    let (program, mut process, lines) = launch(python, folder, case);
    let said: Vec<Said> = lines.take(threads).collect();
    assert_eq!(said.len(), threads, "{python:?} {case}");
    process.refresh().unwrap();
    for said in &said {
        wait_for_waiting(&process, said.thread);
    }
    (program, process, said)
}

/// Starts the program with one case; what it says is read as it comes.
fn launch(python: &Path, folder: &Path, case: &str) -> (Program, Process, Lines) {
    // A table of lines that is long, and a step that needs several entries.
    let lines: String = (0..400)
        .map(|n| format!("    total += {n}\n{}", if n == 200 { "\n".repeat(700) } else { String::new() }))
        .collect();
    let file = folder.join("främes.py");
    fs::write(&file, include_str!("frames.py").replace("@LINES@\n", &lines)).unwrap();
    let mut child =
        Command::new(python).arg(&file).arg(case).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let process = Process::open(Path::new("/proc"), child.id()).unwrap();
    (Program(child), process, Box::new(lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())))
}

/// A thread says what it is at just before it waits: for input, by the system call read.
fn wait_for_waiting(process: &Process, tid: u32) {
    let waits = || process.waiting(tid).unwrap().is_some_and(|at| at.call == Some(0) && at.arguments[0] == 0);
    while !waits() {
        std::thread::yield_now();
    }
}

fn python_of(process: &Process) -> Python {
    let interpreter = Interpreter::find(process).unwrap();
    let codes = Codes::new(interpreter.code_type);
    Python { interpreter, codes, has_news: false }
}

/// Function, file and line of each frame that the program's thread has.
fn rows(process: &Process, python: &mut Python, tid: u32) -> Vec<Row> {
    let taken = Taken::parse(&python.take(process, Thread { tid_inside: tid, fsbase: None }).unwrap()).unwrap();
    assert_eq!(taken.flags, 0, "{tid}");
    let shown = python.frames(process, &taken).0.into_iter().filter_map(|python| python.frame);
    shown.map(row).collect()
}

fn row(frame: Frame) -> Row {
    (frame.function.unwrap().into(), frame.file.unwrap().into(), frame.line.unwrap())
}

#[test]
fn frames_of_every_sort_are_those_that_the_interpreter_says() {
    let folder = tempfile::tempdir().unwrap();
    for (minor, path) in interpreters() {
        let (_program, process, said) = start(&path, folder.path(), "nested", 1);
        let mut python = python_of(&process);
        let rows = rows(&process, &mut python, said[0].thread);
        assert_eq!(rows, said[0].frames, "3.{minor} {path:?}");
        let functions: Vec<&str> = rows.iter().map(|(function, ..)| function.rsplit('.').next().unwrap()).collect();
        assert!(
            functions.starts_with(&["wait", "inner", "produce", "größe", "flush", "commit", "wrapper", "__init__"]),
            "{functions:?}"
        );
        assert!(
            functions.contains(&"<lambda>")
                && functions.ends_with(&["loads", "through_c", "of_many_lines", "<module>"]),
            "{functions:?}"
        );
        assert!(rows.iter().any(|(function, _, line)| function == "of_many_lines" && *line > 1000), "{rows:?}");
    }
}

#[test]
fn each_thread_has_its_own() {
    let folder = tempfile::tempdir().unwrap();
    for (minor, path) in interpreters() {
        let (_program, process, said) = start(&path, folder.path(), "threads", 5);
        let mut python = python_of(&process);
        for said in said {
            assert_eq!(rows(&process, &mut python, said.thread), said.frames, "3.{minor} {path:?} {}", said.thread);
        }
    }
}

#[test]
fn what_is_too_deep_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    for (minor, path) in interpreters() {
        let (_program, process, said) = start(&path, folder.path(), "deep", 1);
        let mut python = python_of(&process);
        let bytes = python.take(&process, Thread { tid_inside: said[0].thread, fsbase: None }).unwrap();
        let taken = Taken::parse(&bytes).unwrap();
        assert_eq!((taken.running.len(), taken.beyond as usize), (80, said[0].frames.len() - 80), "3.{minor}");
        let raw = RawStack { registers: Default::default(), stack: Vec::new(), is_cut: false, runtime: bytes };
        let (frames, why) = python.weave(&process, &raw, Vec::new());
        assert_eq!(frames[79].function.as_deref(), Some("deep"));
        assert!(why.unwrap().contains("innermost 80"));
    }
}

#[test]
fn a_process_without_python_has_none() {
    let process = Process::open(Path::new("/proc"), std::process::id()).unwrap();
    assert!(Interpreter::find(&process).is_none());
}
