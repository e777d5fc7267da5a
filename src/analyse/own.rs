//! Whose code a frame is: the user's own, or that of the system, a driver, a pool, a runtime. The rules are a text that a person
//! can read (`own/rules.txt`) and put their own before.

mod glob;

use crate::model::{Frame, Stack};
use glob::Glob;

/// The rules that hold for everybody.
const RULES: &str = include_str!("own/rules.txt");

/// Why a text is no rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}; a line is like `own file /srv/app/**`, or `library module **/libfoo.so*`")]
pub struct RuleError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Whose code a frame is. A stack is named by its first frame of the lowest class that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Own,
    /// Of the program that was started, where it came with the system; its own where no other frame is.
    Program,
    Library,
    System,
    /// Nothing can be said by it: it has no function.
    Unnamed,
}

/// What a glob is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    File,
    Module,
    Function,
}

/// One line: a frame is of this class if all conditions hold.
#[derive(Clone, Debug)]
struct Rule {
    class: Class,
    conditions: Vec<(Part, Glob)>,
}

/// Says which frames of a stack are the user's own, and how the one that matters is named.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Default for Rules {
    /// Those that come with the program.
    fn default() -> Self {
        // A test reads the same text.
        Rules { rules: read(RULES).unwrap_or_default() }
    }
}

impl Rules {
    /// A person's own rules, asked before those that come with the program.
    ///
    /// # Errors
    /// The first line that is no rule.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let mut rules = read(text)?;
        rules.extend(Rules::default().rules);
        Ok(Rules { rules })
    }

    /// Sets [`Frame::own`] on every frame.
    pub fn mark(&self, stack: &mut Stack) {
        let classes: Vec<Class> = stack.frames.iter().map(|frame| self.class(frame)).collect();
        let own = if classes.contains(&Class::Own) { Class::Own } else { Class::Program };
        for (frame, class) in stack.frames.iter_mut().zip(classes) {
            frame.own = class == own;
        }
    }

    /// How the frame that matters is named, `report_export (app.py:88)`: the first of the user's own code; where there is none, of
    /// a library, and only then any.
    pub fn label(&self, stack: &Stack) -> String {
        let own = stack.frames.iter().find(|frame| frame.own);
        // The first of the least: `min_by_key` keeps it.
        let frame = own.or_else(|| stack.frames.iter().min_by_key(|frame| self.class(frame)));
        frame.map_or_else(|| "an unknown place".to_owned(), label)
    }

    fn class(&self, frame: &Frame) -> Class {
        if frame.function.as_deref().is_none_or(str::is_empty) {
            return Class::Unnamed;
        }
        self.rules.iter().find(|rule| rule.fits(frame)).map_or(Class::Own, |rule| rule.class)
    }
}

impl Rule {
    fn fits(&self, frame: &Frame) -> bool {
        self.conditions.iter().all(|(part, glob)| {
            let text = match part {
                Part::File => &frame.file,
                Part::Module => &frame.module,
                Part::Function => &frame.function,
            };
            text.as_deref().is_some_and(|text| glob.fits(text))
        })
    }
}

/// A frame's function with its place. A file whose name says little has its folder's before it.
fn label(frame: &Frame) -> String {
    let last = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let place = match (frame.file.as_deref(), frame.line, frame.module.as_deref()) {
        (Some(file), Some(line), _) => Some(format!("{}:{line}", file_name(file))),
        (Some(file), None, _) => Some(file_name(file)),
        (None, _, Some(module)) => Some(last(module)),
        (None, _, None) => None,
    };
    match (frame.function.as_deref(), place) {
        (Some(function), Some(place)) => format!("{function} ({place})"),
        (Some(function), None) => function.to_owned(),
        (None, Some(place)) => format!("an unknown place in {place}"),
        (None, None) => "an unknown place".to_owned(),
    }
}

/// `app.py`, but `orders/__init__.py`.
fn file_name(path: &str) -> String {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or(path);
    let folder = parts.next().filter(|folder| !folder.is_empty());
    let stem = name.split('.').next().unwrap_or(name);
    match folder {
        Some(folder) if ["__init__", "__main__", "mod", "lib", "index"].contains(&stem) => format!("{folder}/{name}"),
        _ => name.to_owned(),
    }
}

/// The rules of a text, one a line; `#` begins a comment.
fn read(text: &str) -> Result<Vec<Rule>, RuleError> {
    let rules =
        text.lines().enumerate().map(|(at, line)| rule(line).map_err(|reason| RuleError { line: at + 1, reason }));
    rules.filter_map(Result::transpose).collect()
}

fn rule(line: &str) -> Result<Option<Rule>, String> {
    let words = shlex::split(line).ok_or_else(|| "a quote isn't closed".to_owned())?;
    let Some((class, conditions)) = words.split_first() else { return Ok(None) };
    let class = match class.as_str() {
        "own" => Class::Own,
        "program" => Class::Program,
        "library" => Class::Library,
        "system" => Class::System,
        other => return Err(format!("`{other}` is none of own, program, library, system")),
    };
    if conditions.is_empty() {
        return Err("it says of whom, not of what".to_owned());
    }
    let condition = |pair: &[String]| {
        let (part, pattern) = match pair {
            [part, pattern] => (part.as_str(), pattern),
            _ => return Err(format!("`{}` has no pattern after it", pair.join(" "))),
        };
        let part = match part {
            "file" => Part::File,
            "module" => Part::Module,
            "function" => Part::Function,
            other => return Err(format!("`{other}` is none of file, module, function")),
        };
        Ok((part, Glob::parse(pattern, part != Part::Function)?))
    };
    let conditions = conditions.chunks(2).map(condition).collect::<Result<_, _>>()?;
    Ok(Some(Rule { class, conditions }))
}

#[cfg(test)]
mod tests;
