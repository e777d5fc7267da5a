//! MySQL and MariaDB: what a client says.
//!
//! Every packet is its length (three bytes, the lowest first), its number in the exchange, and its body; a command has number 0
//! and begins with a byte that says which. Source: the chapter "Client/Server Protocol" of MySQL's internals manual; MariaDB's
//! knowledge base for what it adds.

use super::bytes::{Bytes, is_text, text};
use super::sql::{Dialect, Sql};
use super::{Prepared, Protocol, Said, Written};

const QUIT: u8 = 0x01;
const INIT_DB: u8 = 0x02;
const QUERY: u8 = 0x03;
const FIELD_LIST: u8 = 0x04;
const STATISTICS: u8 = 0x09;
const PING: u8 = 0x0e;
const CHANGE_USER: u8 = 0x11;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const LONG_DATA: u8 = 0x18;
const CLOSE: u8 = 0x19;
const RESET_STATEMENT: u8 = 0x1a;
const SET_OPTION: u8 = 0x1b;
const FETCH: u8 = 0x1c;
const RESET_CONNECTION: u8 = 0x1f;
/// MariaDB's execution with many rows of values.
const BULK_EXECUTE: u8 = 0xfa;

/// MariaDB: the statement that was prepared last.
const LAST_PREPARED: u32 = u32::MAX;

/// Of what a client can do: begins a session as since version 4.1; names a database.
const PROTOCOL_41: u32 = 0x200;
const WITH_DATABASE: u32 = 0x8;
const SWITCH_TO_TLS: u32 = 0x800;

/// A connection to MySQL.
#[derive(Debug)]
pub(super) struct MySql {
    show_literals: bool,
    /// What was prepared, in order; a statement's number is its place, from 1. Each with whether it was cut.
    statements: Vec<(String, bool)>,
    /// True where `statements` begins with the connection's first.
    is_whole: bool,
}

/// One packet of a write.
struct Packet<'a> {
    number: u8,
    /// The body, as far as it is known.
    body: &'a [u8],
    size: usize,
    is_cut: bool,
}

impl MySql {
    pub(super) fn new(prepared: Prepared, show_literals: bool) -> Self {
        let packets = prepared.writes.iter().flat_map(|write| packets(write, u64::MAX).unwrap_or_default());
        let statements = packets.filter_map(|packet| match packet.body {
            [PREPARE, sql @ ..] => Some((text(sql), packet.is_cut)),
            _ => None,
        });
        MySql { show_literals, statements: statements.collect(), is_whole: prepared.is_whole }
    }

    fn say(&self, sql: &str, is_cut: bool) -> Said {
        let sql = Sql::read(sql, Dialect::MySql, is_cut);
        Said::new(sql.line(self.show_literals), sql.is_useful())
    }

    fn execute(&self, number: u32) -> Said {
        let statement = match number {
            LAST_PREPARED => self.statements.last(),
            _ if self.is_whole => number.checked_sub(1).and_then(|place| self.statements.get(place as usize)),
            _ => None,
        };
        match statement {
            Some((sql, is_cut)) => self.say(sql, *is_cut),
            None => Said::idle(format!("(statement {number}, which was sent earlier)")),
        }
    }

    /// What a command says; `None` where it isn't one.
    fn command(&self, packet: &Packet) -> Option<Said> {
        let mut body = Bytes(packet.body);
        let command = body.u8()?;
        let said = match command {
            QUERY => {
                // Without attributes, which a client of MySQL 8 says by two bytes before the text.
                let sql = body.0.strip_prefix(&[0, 1]).unwrap_or(body.0);
                is_text(sql).then(|| self.say(&text(sql), packet.is_cut))?
            }
            PREPARE => is_text(body.0).then(|| self.say(&text(body.0), packet.is_cut))?,
            EXECUTE | BULK_EXECUTE if packet.size >= 7 => self.execute(body.le32()?),
            INIT_DB => is_text(body.0).then(|| Said::idle(format!("USE {}", text(body.0))))?,
            FIELD_LIST => Said::idle("(question for the columns of a table)"),
            PING if packet.size == 1 => Said::idle("PING"),
            QUIT if packet.size == 1 => Said::idle("(end of the session)"),
            STATISTICS if packet.size == 1 => Said::idle("(question for statistics)"),
            RESET_CONNECTION if packet.size == 1 => Said::idle("(reset of the session)"),
            CHANGE_USER => {
                let (user, _) = body.string_or_rest();
                is_text(user).then(|| Said::idle(format!("(change of user: {})", text(user))))?
            }
            LONG_DATA if packet.size >= 7 => Said::idle("(a long value of a statement)"),
            CLOSE if packet.size == 5 => Said::idle("(close of a statement)"),
            RESET_STATEMENT if packet.size == 5 => Said::idle("(reset of a statement)"),
            FETCH if packet.size == 9 => Said::idle("(further rows of a statement)"),
            SET_OPTION if packet.size == 3 => Said::idle("(change of an option)"),
            _ => return None,
        };
        Some(said)
    }
}

impl Protocol for MySql {
    fn read(&mut self, write: &Written) -> Option<Vec<Said>> {
        let packets = packets(write.bytes, write.length)?;
        let mut said = Vec::new();
        for packet in &packets {
            match packet.number {
                0 => said.push(self.command(packet)?),
                1 | 2 if said.is_empty() && packets.len() == 1 => said.push(beginning(packet)?),
                _ => return None,
            }
        }
        // To prepare and run in one write says it once; closing goes along with what comes after it.
        said.dedup();
        if said.iter().any(|said| said.is_useful) {
            said.retain(|said| said.is_useful || !said.text.starts_with('('));
        }
        Some(said)
    }
}

/// The answer to a server's greeting: who, and which database. What proves it is left out.
fn beginning(packet: &Packet) -> Option<Said> {
    let mut body = Bytes(packet.body);
    let able = body.le32().filter(|able| able & PROTOCOL_41 != 0)?;
    let (_, _, filler) = (body.le32()?, body.u8()?, body.take(23)?);
    if filler[..19].iter().any(|byte| *byte != 0) {
        return None;
    }
    if packet.size == 32 && able & SWITCH_TO_TLS != 0 {
        return Some(Said::idle("(request for TLS)"));
    }
    let user = text(body.string()?);
    let proof = body.u8()?;
    let database = body.take(usize::from(proof)).and_then(|_| body.string()).filter(|_| able & WITH_DATABASE != 0);
    let database = database.map(|name| format!(", database {}", text(name))).unwrap_or_default();
    Some(Said::idle(format!("(start of the session: user {user}{database})")))
}

/// The packets of a write of `length` bytes, of which the first are known; `None` where that is not what they are.
fn packets(known: &[u8], length: u64) -> Option<Vec<Packet<'_>>> {
    let mut found = Vec::new();
    let mut bytes = Bytes(known);
    while !bytes.0.is_empty() {
        let Some(header) = bytes.le32() else {
            return (length > known.len() as u64 && !found.is_empty()).then_some(found);
        };
        let (size, number) = ((header & 0xff_ffff) as usize, (header >> 24) as u8);
        if size == 0 {
            return None;
        }
        let packet = match bytes.take(size) {
            Some(body) => Packet { number, body, size, is_cut: false },
            None => Packet { number, body: std::mem::take(&mut bytes.0), size, is_cut: true },
        };
        // Only what carries a text may be longer than its write.
        let is_long = matches!(packet.body, [QUERY | PREPARE | EXECUTE | LONG_DATA | BULK_EXECUTE, ..]);
        if packet.is_cut && length <= known.len() as u64 && !is_long {
            return None;
        }
        found.push(packet);
    }
    (!found.is_empty()).then_some(found)
}
