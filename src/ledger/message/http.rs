//! HTTP: the line of a request with its host. Of HTTP/2, whose headers are packed in a way that needs the whole connection, only
//! which frames were sent.

use super::bytes::{Bytes, text};
use super::{Protocol, Said, Written};

const METHODS: [&str; 12] =
    ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PROPFIND", "REPORT", "SEARCH"];

/// What a client of HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The types of its frames, by their number (RFC 9113, section 6).
const FRAMES: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];

/// Those that are about the whole connection.
const OF_CONNECTION: [&str; 4] = ["SETTINGS", "PING", "GOAWAY", "WINDOW_UPDATE"];

/// The highest number of a stream: its first bit is kept free.
const STREAM_MAX: u32 = u32::MAX >> 1;

/// The longest frame that is taken for one: what a peer allows unless it says otherwise, four times over.
const FRAME_BYTES_MAX: u32 = 4 << 14;

/// A connection that speaks HTTP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Http {
    show_literals: bool,
    /// True once the preface of HTTP/2 was seen.
    is_newer: bool,
}

impl Http {
    pub(super) fn new(show_literals: bool) -> Self {
        Http { show_literals, is_newer: false }
    }

    fn request(self, head: &str) -> Option<Said> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let method = words.next().filter(|method| METHODS.contains(method))?;
        let target = words.next().filter(|target| target.starts_with('/') || target.contains(':') || *target == "*")?;
        // The version, unless the line was cut.
        let version = words.next().unwrap_or("…");
        if !version.starts_with("HTTP/1.") && !"HTTP/1.".starts_with(version) && version != "…" {
            return None;
        }
        let host = lines.take_while(|line| !line.is_empty()).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then(|| value.trim())
        });
        let host = host.map(|host| format!(" Host: {host}")).unwrap_or_default();
        Some(Said::new(format!("{method} {} {version}{host}", self.target(target)), true))
    }

    /// A path, or a whole address, without what a person may have typed in.
    fn target(self, target: &str) -> String {
        let (target, query) = target.split_once('?').unwrap_or((target, ""));
        // `http://user:password@host/`.
        let target = match target.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1))) {
            Some((scheme, host)) => format!("{scheme}://?@{host}"),
            None => target.to_owned(),
        };
        let mask = |pair: &str| match pair.split_once('=') {
            Some((name, value)) if self.show_literals && !is_secret(name) => format!("{name}={value}"),
            Some((name, _)) => format!("{name}=?"),
            None if self.show_literals => pair.to_owned(),
            None => "?".to_owned(),
        };
        match query {
            "" => target,
            _ => format!("{target}?{}", query.split('&').map(mask).collect::<Vec<_>>().join("&")),
        }
    }
}

impl Protocol for Http {
    fn read(&mut self, write: &Written) -> Option<Vec<Said>> {
        if let Some(after) = write.bytes.strip_prefix(PREFACE) {
            let mut said = vec![Said::idle("HTTP/2")];
            self.is_newer = true;
            said.extend(frames(after, write.length - PREFACE.len() as u64, true).unwrap_or_default());
            return Some(said);
        }
        if let Some(status) = write.bytes.strip_prefix(b"HTTP/1.") {
            // A server's answer.
            let line = status.split(|byte| *byte == b'\r').next()?;
            return Some(vec![Said::idle(format!("HTTP/1.{}", text(line)))]);
        }
        match write.bytes.first()? {
            b'A'..=b'Z' => self.request(&text(write.bytes)).map(|said| vec![said]),
            _ => frames(write.bytes, write.length, self.is_newer),
        }
    }
}

/// The frames of a write of `length` bytes, of which the first are known. They must fill it, unless it is `sure` that they are
/// frames, for then the last may go on in a later write.
fn frames(known: &[u8], length: u64, sure: bool) -> Option<Vec<Said>> {
    let mut said = Vec::new();
    let mut bytes = Bytes(known);
    let mut end = 0;
    while let (Some(header), Some(_flags), Some(stream)) = (bytes.be32(), bytes.u8(), bytes.be32()) {
        let (size, kind) = (header >> 8, header & 0xff);
        let name = *FRAMES.get(kind as usize).filter(|_| size <= FRAME_BYTES_MAX)?;
        said.push(match stream {
            0 if OF_CONNECTION.contains(&name) => Said::idle(format!("HTTP/2 {name}")),
            1..=STREAM_MAX if !OF_CONNECTION.contains(&name) || name == "WINDOW_UPDATE" => {
                Said::idle(format!("HTTP/2 {name}, stream {stream}"))
            }
            _ => return None,
        });
        end += 9 + u64::from(size);
        if bytes.take(size as usize).is_none() {
            break;
        }
    }
    let fits = end == length || (end < length && length > known.len() as u64) || (end > length && sure);
    (fits && !said.is_empty()).then_some(said)
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "pwd", "token", "secret", "key", "sig", "auth", "code"]
        .iter()
        .any(|word| name.contains(word))
}
