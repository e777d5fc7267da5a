//! The command line: flags as typed (`args`), options as meant (`options`), one file per verb.

mod args;
mod budget;
mod demo;
mod doctor;
mod error;
mod frames;
mod import;
mod keys;
mod list;
mod moment;
mod on_leak;
mod options;
mod run;
mod session;
mod show;
mod suspects;
mod top;
mod view;
mod wake;
mod watch;

use crate::present::table::printable;
use args::{Cli, Verb};
use clap::Parser;
use clap::error::ErrorKind;
use error::{Failure, exit};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// The verbs, so that a first argument that is none can be told from them.
const VERBS: [&str; 11] =
    ["top", "list", "watch", "record", "run", "show", "view", "import", "doctor", "demo", "demo-program"];

/// First arguments that ask about the program itself.
const ABOUT: [&str; 5] = ["help", "-h", "--help", "-V", "--version"];

/// Runs the program with these arguments (the first is its own name) and returns what it ends with.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let typed = match Cli::try_parse_from(with_verb(arguments.into_iter().collect())) {
        Ok(typed) => typed,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // clap colours it where there is a terminal; where nobody reads it there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(if asked { exit::FINE } else { exit::USAGE });
        }
    };
    let ended = match typed.verb {
        Verb::Top(typed) => top::run(&typed),
        Verb::List(typed) => list::run(&typed),
        Verb::Watch(typed) => watch::watch(&typed),
        Verb::Record(typed) => watch::record(&typed),
        Verb::Run(typed) => run::run(&typed),
        Verb::Show(typed) => show::run(&typed),
        Verb::View(typed) => view::run(&typed),
        Verb::Import(typed) => import::run(&typed),
        Verb::Doctor(typed) => doctor::run(&typed),
        Verb::Demo(typed) => demo::run(&typed),
        Verb::DemoProgram(typed) => demo::program(&typed),
    };
    ExitCode::from(ended.unwrap_or_else(|failure| {
        complain(&failure);
        failure.code
    }))
}

/// `unclosed` alone, or with flags alone, means `top`; `unclosed 3136` and `unclosed orders-api` mean `watch`.
fn with_verb(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.len() == 1 {
        arguments.push("top".into());
    }
    let Some(first) = arguments.get(1).and_then(|first| first.to_str()).map(str::to_owned) else { return arguments };
    if first.is_empty() || VERBS.contains(&first.as_str()) || ABOUT.contains(&first.as_str()) {
        return arguments;
    }
    if first.starts_with('-') {
        arguments.insert(1, "top".into());
        return arguments;
    }
    let flag = if first.split(',').all(|pid| pid.parse::<u32>().is_ok()) { "-p" } else { "-c" };
    arguments.splice(1..1, ["watch".into(), flag.into()]);
    arguments
}

/// Says what failed and what mends it.
fn complain(failure: &Failure) {
    if failure.code == exit::FINE {
        return;
    }
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "error: {}", printable(&failure.message));
    if let Some(hint) = &failure.hint {
        let _ = writeln!(err, "  fix: {}", printable(hint));
    }
}

/// How this program was called, so that the next command can be pasted.
fn called_as() -> String {
    std::env::args().next().unwrap_or_else(|| "unclosed".to_owned())
}

/// Says something on stderr, which is for talk; stdout is for data. A name in it may be a stranger's: no control characters.
fn talk(text: &str) {
    for line in text.split('\n') {
        let _ = writeln!(io::stderr(), "{}", printable(line));
    }
}

/// The terminal's columns and rows; 80 by 24 where it doesn't say.
fn terminal_size() -> (usize, usize) {
    rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .filter(|size| size.ws_col > 0 && size.ws_row > 0)
        .map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// True where a person looks at stdout.
fn is_watched_by_a_person() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
