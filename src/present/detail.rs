//! A detail in words: `watches=5`, `clock=monotonic interval_seconds=1.5`.

use crate::model::Detail;
use serde_json::Value;

/// Every field that is known, as `name=value` with blanks between, under the names that JSON has. The holders of a pipe's
/// other end are `PID:FD`, `none` where nobody holds it.
pub(super) fn detail_words(detail: &Detail) -> String {
    let Ok(Value::Object(fields)) = serde_json::to_value(detail) else { return String::new() };
    let words: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", value_words(value))).collect();
    words.join(" ")
}

fn value_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(value_words).collect::<Vec<_>>().join(","),
        Value::Object(end) => format!("{}:{}", end["pid"], end["fd"]),
        // A whole number of seconds is written as one.
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |it| it.to_string()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PipeEnd;

    #[test]
    fn every_kind_of_value_has_words() {
        let signals = vec!["SIGHUP".to_owned(), "SIGUSR2".to_owned()];
        let detail = Detail { signals: Some(signals), interval_seconds: Some(2.0), ..Detail::default() };
        assert_eq!(detail_words(&detail), "interval_seconds=2 signals=SIGHUP,SIGUSR2");
        let ends = [3, 4].map(|fd| PipeEnd { pid: 7, fd }).to_vec();
        let pipe = |ends| Detail { end: Some("read".to_owned()), other_end: Some(ends), ..Detail::default() };
        assert_eq!(detail_words(&pipe(ends)), "end=read other_end=7:3,7:4");
        assert_eq!(detail_words(&pipe(Vec::new())), "end=read other_end=none");
        let file = Detail { offset: Some(0), deleted: Some(true), ..Detail::default() };
        assert_eq!(detail_words(&file), "deleted=true offset=0");
        assert_eq!(detail_words(&Detail::default()), "");
    }
}
