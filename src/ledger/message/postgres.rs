//! PostgreSQL: what a client says, in the simple and the extended protocol.
//!
//! After the start every message is a letter, its length (four bytes, the highest first, itself included) and its body. Source:
//! the chapter "Frontend/Backend Protocol" of PostgreSQL's manual.

use super::bytes::{Bytes, is_text, text};
use super::sql::{Dialect, Sql};
use super::{Prepared, Protocol, Said, Written};
use std::collections::HashMap;

/// The longest message that a server takes.
const MESSAGE_BYTES_MAX: u32 = 0x3fff_ffff;
/// What a client says before anything else: the version, or one of three requests.
const VERSION_3: u32 = 3 << 16;
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// The text of a statement, as far as it is known.
#[derive(Clone, Debug)]
struct Statement {
    text: String,
    is_cut: bool,
}

/// A connection to PostgreSQL.
#[derive(Debug)]
pub(super) struct Postgres {
    show_literals: bool,
    statements: HashMap<Vec<u8>, Statement>,
    /// The statement of each portal.
    portals: HashMap<Vec<u8>, Vec<u8>>,
}

/// One message of a write.
struct Sent<'a> {
    kind: u8,
    /// The body, as far as it is known.
    body: &'a [u8],
    is_cut: bool,
}

impl Postgres {
    pub(super) fn new(prepared: Prepared, show_literals: bool) -> Self {
        let mut connection = Postgres { show_literals, statements: HashMap::new(), portals: HashMap::new() };
        for write in prepared.writes {
            for sent in messages(write, u64::MAX).unwrap_or_default().iter().filter(|sent| sent.kind == b'P') {
                connection.parse(sent);
            }
        }
        connection
    }

    fn say(&self, statement: &Statement) -> Said {
        let sql = Sql::read(&statement.text, Dialect::PostgreSql, statement.is_cut);
        match sql.line(self.show_literals) {
            line if line.is_empty() => Said::idle("(empty statement)"),
            line => Said::new(line, sql.is_useful()),
        }
    }

    /// Keeps the statement that a message prepares, and gives its name.
    fn parse(&mut self, sent: &Sent) -> Option<Vec<u8>> {
        let mut body = Bytes(sent.body);
        let name = body.string()?.to_vec();
        let (sql, is_cut) = body.string_or_rest();
        // What was cut right behind the name has no text.
        if sql.is_empty() && sent.is_cut {
            return None;
        }
        self.statements.insert(name.clone(), Statement { text: text(sql), is_cut });
        Some(name)
    }

    fn execute(&self, portal: &[u8]) -> Said {
        let name = self.portals.get(portal).map(Vec::as_slice);
        match name.and_then(|name| self.statements.get(name)) {
            Some(statement) => self.say(statement),
            None => match name.unwrap_or(portal) {
                b"" => Said::idle("(a statement that was sent earlier)"),
                name => Said::idle(format!("(statement {}, which was sent earlier)", text(name))),
            },
        }
    }
}

impl Protocol for Postgres {
    fn read(&mut self, write: &Written) -> Option<Vec<Said>> {
        if let Some(said) = beginning(write) {
            return Some(vec![said]);
        }
        let sent = messages(write.bytes, write.length)?;
        let mut said = Vec::new();
        // What this write prepared and has not run yet.
        let mut waiting: Option<Vec<u8>> = None;
        let mut around = "";
        for message in &sent {
            let mut body = Bytes(message.body);
            match message.kind {
                b'Q' => {
                    let (sql, is_cut) = body.string_or_rest();
                    said.push(self.say(&Statement { text: text(sql), is_cut }));
                }
                b'P' => {
                    if let Some(name) = waiting.take().and_then(|name| self.statements.get(&name)) {
                        said.push(self.say(name));
                    }
                    waiting = self.parse(message);
                }
                b'B' => {
                    let portal = body.string().unwrap_or_default().to_vec();
                    let name = body.string().unwrap_or_default().to_vec();
                    self.portals.insert(portal.clone(), name.clone());
                    // Its values are so long that what runs it is not seen.
                    if message.is_cut {
                        said.push(self.execute(&portal));
                        waiting = waiting.filter(|waiting| *waiting != name);
                    }
                }
                b'E' => {
                    let portal = body.string().unwrap_or_default();
                    waiting = waiting.filter(|waiting| self.portals.get(portal) != Some(waiting));
                    said.push(self.execute(portal));
                }
                b'F' => said.push(Said::new(format!("(call of function {})", body.be32()?), true)),
                b'p' => said.push(Said::idle("(password)")),
                b'd' => around = "(COPY data)",
                b'c' => around = "(end of COPY data)",
                b'f' => around = "(COPY was given up)",
                b'X' => said.push(Said::idle("(end of the session)")),
                b'C' => around = "(close of a statement)",
                b'D' => around = "(question for a description)",
                _ if around.is_empty() => around = "(sync)",
                _ => {}
            }
        }
        if let Some(statement) = waiting.and_then(|name| self.statements.get(&name)) {
            said.push(self.say(statement));
        }
        if said.is_empty() {
            said.push(Said::idle(around));
        }
        Some(said)
    }
}

/// What comes before the first message with a letter.
fn beginning(write: &Written) -> Option<Said> {
    let mut bytes = Bytes(write.bytes);
    if u64::from(bytes.be32()?) != write.length {
        return None;
    }
    match bytes.be32()? {
        TLS if write.length == 8 => Some(Said::idle("(request for TLS)")),
        GSS if write.length == 8 => Some(Said::idle("(request for GSSAPI)")),
        CANCEL => Some(Said::idle("(request to cancel a statement)")),
        VERSION_3 => {
            let mut known = Vec::new();
            while let Some(name) = bytes.string().filter(|name| !name.is_empty()) {
                let value = bytes.string().unwrap_or_default();
                if [&b"user"[..], b"database", b"application_name"].contains(&name) {
                    known.push(format!("{} {}", text(name).replace('_', " "), text(value)));
                }
            }
            Some(Said::idle(format!("(start of the session: {})", known.join(", "))))
        }
        _ => None,
    }
}

/// The messages of a write of `length` bytes, of which the first are known; `None` where that is not what they are.
fn messages(known: &[u8], length: u64) -> Option<Vec<Sent<'_>>> {
    let mut found = Vec::new();
    let mut bytes = Bytes(known);
    let is_cut = length > known.len() as u64;
    while !bytes.0.is_empty() {
        let header = bytes.u8().zip(bytes.be32());
        let Some((kind, size)) = header else {
            // The header itself was cut.
            return (is_cut && !found.is_empty()).then_some(found);
        };
        let size = usize::try_from(size.checked_sub(4).filter(|_| size <= MESSAGE_BYTES_MAX)?).ok()?;
        let sent = match bytes.take(size) {
            Some(body) => Sent { kind, body, is_cut: false },
            None => Sent { kind, body: std::mem::take(&mut bytes.0), is_cut: true },
        };
        if !is_plausible(&sent, size) {
            return None;
        }
        found.push(sent);
    }
    (!found.is_empty()).then_some(found)
}

/// True where a body is as the letter wants it.
fn is_plausible(sent: &Sent, size: usize) -> bool {
    let mut body = Bytes(sent.body);
    match sent.kind {
        b'S' | b'H' | b'X' | b'c' => size == 0,
        b'Q' | b'f' => {
            let (sql, has_no_end) = body.string_or_rest();
            (sql.is_empty() || is_text(sql)) && body.0.is_empty() && has_no_end <= sent.is_cut
        }
        b'P' => {
            body.string().is_some_and(|name| name.is_empty() || is_text(name)) && {
                let (sql, has_no_end) = body.string_or_rest();
                (sql.is_empty() || is_text(sql)) && has_no_end <= sent.is_cut
            }
        }
        b'B' => sent.is_cut || (body.string().is_some() && body.string().is_some()),
        b'D' | b'C' => size >= 2 && (sent.is_cut || (matches!(sent.body, [b'S' | b'P', .., 0]))),
        b'E' => size >= 5 && (sent.is_cut || (body.string().is_some() && body.0.len() == 4)),
        b'F' => size >= 10,
        b'p' => size >= 1,
        b'd' => true,
        _ => false,
    }
}
