//! A leaker under watch, and what was said of it held against what it really forgot, and where.

use super::built::source;
use crate::act::{Folder, Run, leak_in, leaked_of, shown};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

/// The verdict is waited for until so many are called leaked.
const CALLED_MIN: usize = 12;
/// What was forgotten before the watch began has no stack: of the others this share has to be named right, and none wrong.
const NAMED_SHARE: f64 = 0.9;

/// A leaker of the matrix.
pub(super) struct Leaker {
    /// What it stands for, in the table.
    pub(super) title: &'static str,
    /// Its source.
    pub(super) source: &'static str,
    /// The functions of the source whose marked lines have to be named.
    pub(super) culprits: &'static [&'static str],
    /// Further flags of the recorder.
    pub(super) flags: &'static str,
}

impl Leaker {
    /// Runs it, watches it until it is judged a leak, prints its row of the table, and checks that its marked lines are named.
    pub(super) fn watched(self, folder: &Folder, program: Run) -> Seen {
        let marks = self.marks();
        let mut running = program.start();
        let pid = running.line_that("its pid", |line| line.parse::<u32>().is_ok());
        let file = folder.file("r.unclosed");
        let record = format!("record -p {pid} --every 500ms {}", self.flags);
        let mut record = Run::it(record).output(&file).start();
        record.complaint("Recording to ");
        leak_in(&file, CALLED_MIN);
        record.interrupt().ok().complains(&["Recording: "]);
        running.signal(Signal::KILL);
        let forgotten = running.done().out.lines().filter_map(forgotten).collect();
        let seen = Seen { leaker: self, report: shown(&file), forgotten };
        seen.print(&marks);
        seen.check(&marks);
        seen
    }

    /// The lines of the source that have to be named.
    fn marks(&self) -> Vec<Mark> {
        let text = fs::read_to_string(source(self.source)).unwrap();
        let lines = text.lines().enumerate();
        let marks: Vec<Mark> =
            lines.filter_map(|(place, line)| Mark::of(self.source, place as u64 + 1, line)).collect();
        let marks: Vec<Mark> = marks.into_iter().filter(|it| self.culprits.contains(&it.function.as_str())).collect();
        assert!(self.culprits.iter().all(|name| marks.iter().any(|it| it.function == *name)), "{}", self.source);
        marks
    }
}

/// The process and descriptor of `leaked PID FD`.
fn forgotten(line: &str) -> Option<(u64, u64)> {
    let (pid, fd) = line.strip_prefix("leaked ")?.split_once(' ')?;
    Some((pid.parse().ok()?, fd.parse().ok()?))
}

/// What a marked line is to what is leaked there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The first own frame of who opened it.
    Opener,
    /// The first own frame of who used it last.
    LastUse,
    /// One of the own frames of who opened it.
    Caller,
    /// The opener's goroutine was started there.
    Created,
    /// A coroutine there waits for the opener.
    Awaits,
    /// The first own frame of where that thread is now.
    Now,
}

impl Part {
    const WORDS: [(&'static str, Part); 6] = [
        ("opener", Part::Opener),
        ("last use", Part::LastUse),
        ("caller", Part::Caller),
        ("created", Part::Created),
        ("awaits", Part::Awaits),
        ("now", Part::Now),
    ];

    /// The frames of a resource that a mark of this part has to be among: the first of them, or any.
    fn frames(self, resource: &Value) -> Vec<&Value> {
        let stack = match self {
            Part::LastUse => &resource["last_use"]["frames"],
            Part::Now => &resource["last_use"]["now"]["frames"],
            _ => &resource["opener"]["frames"],
        };
        let frames = stack.as_array().map(Vec::as_slice).unwrap_or_default().iter();
        match self {
            Part::Opener | Part::LastUse | Part::Now => frames.filter(|it| it["own"] == true).take(1).collect(),
            Part::Caller => frames.filter(|it| it["own"] == true).collect(),
            Part::Created => frames.filter(|it| it["via"] == "created").collect(),
            Part::Awaits => frames.filter(|it| it["via"] == "awaited").collect(),
        }
    }
}

/// A line of a source that has to be named: `/* opener: export_report */` at its end.
#[derive(Debug)]
struct Mark {
    part: Part,
    function: String,
    source: &'static str,
    line: u64,
}

impl Mark {
    fn of(source: &'static str, line: u64, text: &str) -> Option<Mark> {
        let comment = ["/* ", "// ", "# "].iter().find_map(|begin| Some(text.rsplit_once(begin)?.1))?;
        let (word, function) = comment.trim_end_matches("*/").trim_end().split_once(": ")?;
        let (_, part) = *Part::WORDS.iter().find(|(known, _)| *known == word)?;
        Some(Mark { part, function: function.to_owned(), source, line })
    }

    fn is_named_by(&self, frame: &Value) -> bool {
        let file = frame["file"].as_str().unwrap_or_default();
        // A language may have more to a name: its crate, its parameters.
        let function = frame["function"].as_str().is_some_and(|name| name.contains(&self.function));
        function && file.rsplit('/').next() == Some(self.source) && frame["line"] == self.line
    }

    fn is_right(&self, resource: &Value) -> bool {
        self.part.frames(resource).iter().any(|frame| self.is_named_by(frame))
    }

    /// How many of these name the line, how many name another.
    fn score(&self, resources: &[&Value]) -> (usize, usize) {
        let (right, others): (Vec<&Value>, Vec<&Value>) = resources.iter().partition(|it| self.is_right(it));
        (right.len(), others.into_iter().filter(|it| !self.part.frames(it).is_empty()).count())
    }

    /// The first of these that doesn't name the line.
    fn failed<'a>(&self, resources: &[&'a Value]) -> Option<&'a Value> {
        resources.iter().copied().find(|it| !self.is_right(it))
    }
}

/// A leaker that was watched.
pub(super) struct Seen {
    leaker: Leaker,
    report: Value,
    /// Process and descriptor of what it did forget, as it says itself.
    forgotten: BTreeSet<(u64, u64)>,
}

impl Seen {
    /// What is called leaked, and was opened while it was watched.
    pub(super) fn watched_leaks(&self) -> Vec<&Value> {
        let begin = self.report["from"].as_f64().unwrap();
        // Opened before the first look is known by its upper bound alone.
        let watched =
            |it: &&Value| it["opened_exact"] == true || it["opened_after"].as_f64().is_some_and(|at| at > begin);
        leaked_of(&self.report).into_iter().filter(watched).collect()
    }

    /// The last useful thing said on each is this, literals masked, and a commit came after it. Of TLS the first may be told as
    /// encrypted: its libraries are attached to a moment later, and none after that.
    pub(super) fn says(self, statement: &str) -> Self {
        let mut leaks = self.watched_leaks();
        leaks.sort_by(|a, b| a["opened"].as_f64().unwrap().total_cmp(&b["opened"].as_f64().unwrap()));
        let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        let messages = |it: &Value| it["messages"].as_array().unwrap().iter().map(text).collect::<Vec<_>>();
        let encrypted = |it: &&&Value| messages(it).iter().all(|message| message.starts_with("(encrypted, "));
        let readable = &leaks[leaks.iter().take_while(encrypted).count()..];
        let mut right = 0;
        for leak in readable {
            let messages = messages(leak);
            assert!(messages.iter().all(|it| !it.contains("4711")), "{}: {messages:?}", self.leaker.title);
            let commits = messages.last().is_some_and(|it| it.contains("COMMIT"));
            right += usize::from(commits && text(&leak["last_message"]).starts_with(statement));
        }
        let (title, first) = (self.leaker.title, leaks.len() - readable.len());
        say_row(&format!(
            "| {title} | `{statement}...` {right} of {} | before that {first} encrypted |",
            readable.len()
        ));
        assert!(readable.len() >= CALLED_MIN / 2 && is_nearly_all(right, readable), "{title}: {leaks:#?}");
        self
    }

    /// Where the thread that used each last is now has that word, or none has it.
    pub(super) fn waits_for(self, word: &str, is_so: bool) -> Self {
        let leaks = self.watched_leaks();
        let has = |it: &&&Value| it["last_use"]["now"]["words"].as_str().is_some_and(|now| now.contains(word) == is_so);
        let right = leaks.iter().filter(has).count();
        assert!(is_nearly_all(right, &leaks), "{}: {:#}", self.leaker.title, leaks[0]);
        self
    }

    /// No frame of who opened it is the user's own.
    pub(super) fn has_no_own_opener(self) -> Self {
        for leak in self.watched_leaks() {
            let own = Part::Opener.frames(leak);
            assert!(own.is_empty(), "{}: {own:#?}", self.leaker.title);
            let frames = leak["opener"]["frames"].as_array();
            assert!(frames.is_some_and(|it| !it.is_empty()), "{}: {leak:#}", self.leaker.title);
        }
        self
    }

    /// The row of the table, kept with what the tests print.
    fn print(&self, marks: &[Mark]) {
        let leaks = self.watched_leaks();
        let (title, forgot, called) = (self.leaker.title, self.forgotten.len(), leaked_of(&self.report).len());
        let mut row = format!("| {title} | forgot {forgot}, called leaked {called} |");
        for mark in marks {
            let (right, wrong) = mark.score(&leaks);
            let Mark { part, function, source, line } = mark;
            let _ = write!(row, " {part:?} {function} ({source}:{line}) {right} of {}, wrong {wrong} |", leaks.len());
        }
        say_row(&row);
    }

    fn check(&self, marks: &[Mark]) {
        let title = self.leaker.title;
        assert_eq!(self.report["verdict"]["kind"], "leak", "{title}: {:#}", self.report["verdict"]);
        for leak in leaked_of(&self.report) {
            let number = |it: &Value| it.as_u64().unwrap();
            let holders = leak["holders"].as_array().unwrap().iter().map(|it| (number(&it["pid"]), number(&it["fd"])));
            let healthy: Vec<_> = holders.filter(|it| !self.forgotten.contains(it)).collect();
            assert!(healthy.is_empty(), "{title}: {healthy:?} is healthy, and called leaked: {leak:#}");
        }
        let leaks = self.watched_leaks();
        assert!(leaks.len() >= CALLED_MIN / 2, "{title}: {} leaks began while it was watched", leaks.len());
        for mark in marks {
            let (right, wrong) = mark.score(&leaks);
            assert!(
                wrong == 0 && is_nearly_all(right, &leaks),
                "{title}: {mark:?} {right}, {wrong}: {:#?}",
                mark.failed(&leaks)
            );
        }
    }
}

fn is_nearly_all(count: usize, of: &[&Value]) -> bool {
    count as f64 >= NAMED_SHARE * of.len() as f64
}

/// Past the harness, which keeps to itself what a case that doesn't fail prints.
fn say_row(row: &str) {
    let _ = writeln!(std::io::stderr(), "{row}");
}
