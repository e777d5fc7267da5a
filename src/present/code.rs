//! Who opened a resource and who used it last, as JSON has it.

use crate::model::{Frame, LastUse, Report, StackKey, Use, Whereabouts};
use serde_json::{Value, json};

/// Who opened it.
pub(super) fn opener(report: &Report, by: &Use) -> Value {
    let stack = by.stack.and_then(|key| report.stacks.get(&key));
    json!({
        "label": by.stack.and_then(|key| report.labels.get(&key)),
        "frames": frames(report, by.stack),
        "thread": by.thread,
        "tid": by.tid,
        "at": by.at,
        "truncated": stack.and_then(|stack| stack.truncated.as_deref()),
    })
}

/// Who used it last, and where that thread is now.
pub(super) fn last_use(report: &Report, last: &LastUse) -> Value {
    let mut object = opener(report, &last.by);
    object["now"] = last.whereabouts.as_ref().map_or(Value::Null, |it| now(report, it));
    object
}

fn now(report: &Report, now: &Whereabouts) -> Value {
    json!({"at": now.at, "words": now.words, "frames": frames(report, now.stack)})
}

/// Innermost first; `null` where the stack was lost.
fn frames(report: &Report, key: Option<StackKey>) -> Value {
    let stack = key.and_then(|key| report.stacks.get(&key));
    stack.map_or(Value::Null, |stack| stack.frames.iter().map(frame).collect())
}

fn frame(frame: &Frame) -> Value {
    json!({
        "function": frame.function,
        "file": frame.file,
        "line": frame.line,
        "module": frame.module,
        "own": frame.own,
        "via": frame.via.name(),
    })
}
