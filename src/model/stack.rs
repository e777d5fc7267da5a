//! Who did it: the code that opened a resource, that wrote to it last, and what it said.

use super::Timestamp;

/// A stack's number within one recording; equal stacks have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackKey(pub u32);

/// Stacks that a recording holds at the most. A program has some hundred ways to a connection; one that makes up code as it
/// runs may have any number.
pub const STACKS_MAX: usize = 10_000;

/// What is said where there were more.
pub const FURTHER_STACKS: &str =
    "more than 10,000 different stacks were seen: what the further ones opened or used last has no line of code";

/// What was being run at one moment, innermost frame first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stack {
    /// The frames.
    pub frames: Vec<Frame>,
    /// Why frames are missing at the end, and what mends it; `None` where the stack is whole.
    pub truncated: Option<Box<str>>,
}

/// One frame. What is unknown of it is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function, demangled, with what it belongs to: `app::pool::Pool::get`, `Session.commit`.
    pub function: Option<Box<str>>,
    /// The source file, as the program or its debug information has it.
    pub file: Option<Box<str>>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The path of the program or library, in the target's own root; of an interpreted frame the interpreter's.
    pub module: Option<Box<str>>,
    /// How it leads to the frame before it.
    pub via: Via,
    /// True where it is code of the user's own.
    pub own: bool,
}

/// How a frame leads to the one before it, which is nearer to the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Via {
    /// It called it.
    #[default]
    Call,
    /// It called it, and the compiler has made one of the two.
    Inlined,
    /// It is a coroutine that waits for it.
    Awaited,
    /// It started the thread or goroutine that runs it.
    Created,
}

impl Via {
    const NAMES: [(Via, &'static str); 4] =
        [(Via::Call, "call"), (Via::Inlined, "inlined"), (Via::Awaited, "awaited"), (Via::Created, "created")];

    /// Its name in the recording and in JSON.
    pub fn name(self) -> &'static str {
        Via::NAMES.iter().find(|(via, _)| *via == self).map_or("call", |(_, name)| name)
    }

    /// Reads the name; one of a later version is a call.
    pub fn parse(name: &str) -> Via {
        Via::NAMES.iter().find(|(_, known)| *known == name).map_or(Via::Call, |(via, _)| *via)
    }
}

/// A moment at which a thread did something to a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Where in the code; `None` where the stack was lost.
    pub stack: Option<StackKey>,
    /// The thread's name.
    pub thread: Box<str>,
    /// Its number, in our pid namespace where it is known there.
    pub tid: u32,
    /// When.
    pub at: Timestamp,
}

/// What was said on a connection, at one writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// When.
    pub at: Timestamp,
    /// In words: a statement, a command, the first line of a request; literals are masked unless they were asked for.
    pub text: Box<str>,
    /// False for what says nothing of the purpose: `COMMIT`, `SELECT 1`, `PING`.
    pub useful: bool,
}

/// Where the thread that used a resource last is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// When it was looked for.
    pub at: Timestamp,
    /// Where in the code it waits; `None` where it runs, or has ended.
    pub stack: Option<StackKey>,
    /// In words: `waits for a lock`, `waits for 127.0.0.1:5432 to answer`, `has ended`.
    pub words: Box<str>,
}

/// What the kernel alone knows of an open connection.
#[derive(Clone, Debug, PartialEq)]
pub struct LastUse {
    /// Who wrote to it last.
    pub by: Use,
    /// What was said, oldest first; empty unless it is under suspicion.
    pub messages: Vec<Message>,
    /// Where that thread is now; `None` unless it is under suspicion.
    pub whereabouts: Option<Whereabouts>,
}

impl LastUse {
    /// What is known after `newer` was told. Of the same use it keeps what was said and where the thread is, where that is
    /// not told again.
    pub fn following(known: Option<Box<LastUse>>, newer: Option<Box<LastUse>>) -> Option<Box<LastUse>> {
        let (known, mut newer) = match (known, newer) {
            (Some(known), Some(newer)) => (known, newer),
            (known, newer) => return newer.or(known),
        };
        if known.by == newer.by {
            if newer.messages.is_empty() {
                newer.messages = known.messages;
            }
            newer.whereabouts = newer.whereabouts.or(known.whereabouts);
        }
        Some(newer)
    }

    /// The last message that says what the connection was for.
    pub fn last_useful(&self) -> Option<&Message> {
        self.messages.iter().rev().find(|message| message.useful)
    }
}

impl Stack {
    /// The frame that is named: the first of the user's own code; where there is none, the first of which a function is known.
    pub fn named(&self) -> Option<&Frame> {
        let known = |frame: &&Frame| frame.function.is_some();
        self.frames.iter().find(|frame| frame.own).or_else(|| self.frames.iter().find(known))
    }
}
