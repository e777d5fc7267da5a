//! Redis: commands as arrays of strings (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`). Source: the page "Redis serialization protocol" of its manual.
//!
//! Names and keys are shown, values masked. Where a command's keys stand follows from its name; of one that isn't listed the
//! first argument is the key, as it is of most.

use super::bytes::{Bytes, text};
use super::{Protocol, Said, Written};

/// Commands about the connection itself.
const OF_CONNECTION: [&str; 18] = [
    "PING",
    "ECHO",
    "AUTH",
    "HELLO",
    "CLIENT",
    "SELECT",
    "MULTI",
    "EXEC",
    "DISCARD",
    "UNWATCH",
    "QUIT",
    "RESET",
    "COMMAND",
    "READONLY",
    "READWRITE",
    "ASKING",
    "CLUSTER",
    "SENTINEL",
];

/// All their arguments are keys or channels.
const KEYS: [&str; 27] = [
    "DEL",
    "UNLINK",
    "EXISTS",
    "TOUCH",
    "MGET",
    "WATCH",
    "SINTER",
    "SUNION",
    "SDIFF",
    "SINTERSTORE",
    "SUNIONSTORE",
    "SDIFFSTORE",
    "PFCOUNT",
    "PFMERGE",
    "RENAME",
    "RENAMENX",
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "BLPOP",
    "BRPOP",
    "BZPOPMIN",
    "BZPOPMAX",
    "KEYS",
    "RPOPLPUSH",
];

/// Keys and values take turns.
const PAIRS: [&str; 2] = ["MSET", "MSETNX"];

/// A script or its hash, the number of keys, the keys, then values.
const SCRIPTS: [&str; 6] = ["EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"];

/// Their first argument is a part of the name.
const WITH_SUBCOMMAND: [&str; 16] = [
    "CLIENT", "CONFIG", "CLUSTER", "SCRIPT", "FUNCTION", "XGROUP", "XINFO", "OBJECT", "MEMORY", "DEBUG", "LATENCY",
    "MODULE", "PUBSUB", "SLOWLOG", "SENTINEL", "COMMAND",
];

/// Their arguments may be passwords, so that none is ever shown.
const SECRET: [&str; 5] = ["AUTH", "HELLO", "ACL", "CONFIG", "MIGRATE"];

/// The longest key or value that is shown whole, in characters.
const SHOWN_MAX: usize = 64;

/// The most arguments of one command that are told.
const ARGUMENTS_MAX: usize = 16;

/// A connection to Redis; one command says nothing of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Redis {
    pub(super) show_literals: bool,
}

impl Protocol for Redis {
    fn read(&mut self, write: &Written) -> Option<Vec<Said>> {
        let is_cut = write.length > write.bytes.len() as u64;
        let mut bytes = Bytes(write.bytes);
        let mut said = Vec::new();
        while !bytes.0.is_empty() {
            match command(&mut bytes, is_cut) {
                Some(words) => said.push(self.say(&words)),
                // Only the last one may be cut.
                None if is_cut && !said.is_empty() => break,
                None => return inline(write.bytes).map(|said| vec![said]),
            }
        }
        (!said.is_empty()).then_some(said)
    }
}

impl Redis {
    fn say(self, words: &[&[u8]]) -> Said {
        let Some((name, arguments)) = words.split_first() else { return Said::idle("(empty command)") };
        let name = text(name).to_uppercase();
        let is = |names: &[&str]| names.contains(&name.as_str());
        let is_useful = !is(&OF_CONNECTION);
        let is_secret = is(&SECRET);
        let keys = keys(&name, arguments);
        let mut line = name.clone();
        let mut masked = false;
        for (at, argument) in arguments.iter().take(ARGUMENTS_MAX).enumerate() {
            let is_shown = keys(at) || (self.show_literals && !is_secret && !is_password(arguments, at));
            match is_shown {
                true => line.push_str(&format!(" {}", shown(argument))),
                // One for any number of values, so that equal commands look equal.
                false if !masked => line.push_str(" ?"),
                false => {}
            }
            masked = !is_shown;
        }
        if arguments.len() > ARGUMENTS_MAX {
            line.push_str(" …");
        }
        Said::new(line, is_useful)
    }
}

/// Which arguments are keys.
fn keys<'a>(name: &str, arguments: &'a [&[u8]]) -> Box<dyn Fn(usize) -> bool + 'a> {
    let number = |at: usize| arguments.get(at).and_then(|it| text(it).parse::<usize>().ok()).unwrap_or(0);
    let streams = || arguments.iter().position(|it| it.eq_ignore_ascii_case(b"STREAMS"));
    match name {
        "AUTH" | "ACL" | "HELLO" | "ECHO" => Box::new(|_| false),
        // SELECT's number and the pattern of a SCAN are no secret.
        _ if KEYS.contains(&name) => Box::new(|_| true),
        _ if PAIRS.contains(&name) => Box::new(|at| at % 2 == 0),
        _ if SCRIPTS.contains(&name) => {
            let last = number(1).saturating_add(1);
            let is_call = name.starts_with("FCALL");
            Box::new(move |at| (at == 0 && is_call) || (1..=last).contains(&at))
        }
        "XREAD" | "XREADGROUP" => {
            let from = streams().unwrap_or(usize::MAX);
            let half = arguments.len().saturating_sub(from.saturating_add(1)).div_ceil(2);
            Box::new(move |at| at == from || (at > from && at <= from.saturating_add(half)))
        }
        "OBJECT" | "MEMORY" | "XGROUP" | "XINFO" | "BITOP" => Box::new(|at| at <= 1),
        _ if WITH_SUBCOMMAND.contains(&name) => Box::new(|at| at == 0),
        _ => Box::new(|at| at == 0),
    }
}

/// True for what follows a word for a password, whatever the command.
fn is_password(arguments: &[&[u8]], at: usize) -> bool {
    let tells =
        |argument: &&[u8]| [&b"AUTH"[..], b"AUTH2", b"PASSWORD"].iter().any(|word| argument.eq_ignore_ascii_case(word));
    arguments[at.saturating_sub(2)..at].iter().any(tells)
}

/// As text, quoted where it holds what a line can't.
fn shown(argument: &[u8]) -> String {
    let mut line: String = text(argument).chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text(argument).chars().nth(SHOWN_MAX).is_some() {
        line.push('…');
    }
    line
}

/// The next command: its name and arguments as far as they are known, at least its whole name. `None` where there is none.
fn command<'a>(bytes: &mut Bytes<'a>, is_cut: bool) -> Option<Vec<&'a [u8]>> {
    let count = header(bytes, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let word = header(bytes, b'$').and_then(|size| match bytes.take(size) {
            Some(word) => bytes.take(2).is_none_or(|end| end == b"\r\n").then_some(word),
            // A long value goes on in a later write, or beyond what is kept.
            None => Some(std::mem::take(&mut bytes.0)),
        });
        match word {
            Some(word) => words.push(word),
            None if bytes.0.is_empty() || is_cut => break,
            None => return None,
        }
    }
    if words.len() < count {
        bytes.0 = &[];
    }
    words.first().filter(|name| is_name(name))?;
    Some(words)
}

/// A number in a line of its own, after the letter that says of what.
fn header(bytes: &mut Bytes, kind: u8) -> Option<usize> {
    let end = bytes.0.windows(2).position(|pair| pair == b"\r\n").filter(|end| *end < 12)?;
    let digits = bytes.0[..end].strip_prefix(&[kind])?;
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    bytes.take(end + 2)?;
    Some(number)
}

fn is_name(name: &[u8]) -> bool {
    (1..=32).contains(&name.len()) && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(byte))
}

/// A command as people type it, of which only the commonest are taken for one.
fn inline(bytes: &[u8]) -> Option<Said> {
    let line = bytes.strip_suffix(b"\r\n")?;
    ["PING", "QUIT", "INFO"]
        .iter()
        .find(|name| line.eq_ignore_ascii_case(name.as_bytes()))
        .map(|name| Said::idle(*name))
}
