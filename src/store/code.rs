//! Who did it, as the recording has it: stacks, who opened, who used last and what was said, and the totals by code.

use super::error::StoreError;
use super::reader::Recording;
use crate::model::{
    CodeGroup, Frame, Kind, LastUse, Lifetime, LifetimeId, Message, Part, STACKS_MAX, Stack, StackKey, Tally,
    Timestamp, Use, Via, Whereabouts,
};
use rusqlite::{CachedStatement, Row, Transaction, params};
use std::collections::{BTreeMap, HashMap};

/// What stands for no stack where it is part of a key.
const NO_STACK: i64 = -1;

/// A use of which no more is told keeps what was said and where its thread is.
const WRITE_LAST_USE: &str = "
    INSERT INTO last_use VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET
        messages = CASE WHEN ?6 IS NULL AND (stack, thread, tid, at) IS (?2, ?3, ?4, ?5) THEN messages ELSE ?6 END,
        now = CASE WHEN ?7 IS NULL AND (stack, thread, tid, at) IS (?2, ?3, ?4, ?5) THEN now ELSE ?7 END,
        stack = ?2, thread = ?3, tid = ?4, at = ?5";

/// A frame as its row's JSON has it: function, file, line, module, and how it leads to the one before.
type FrameRow<'a> = (Option<&'a str>, Option<&'a str>, Option<u32>, Option<&'a str>, &'a str);

/// The same, read.
type FrameRead = (Option<Box<str>>, Option<Box<str>>, Option<u32>, Option<Box<str>>, String);

/// Writes stacks that are new.
pub(super) fn write_stacks(transaction: &Transaction, stacks: &[(StackKey, Stack)]) -> rusqlite::Result<()> {
    let mut write = transaction.prepare_cached("INSERT OR IGNORE INTO stack VALUES (?, ?, ?)")?;
    for (key, stack) in stacks {
        let row = |it: &'_ Frame| -> String {
            let frame: FrameRow =
                (it.function.as_deref(), it.file.as_deref(), it.line, it.module.as_deref(), it.via.name());
            // Plain texts and a number: it always has a JSON.
            serde_json::to_string(&frame).unwrap_or_default()
        };
        let frames = stack.frames.iter().map(row).collect::<Vec<_>>().join(",");
        write.execute(params![key.0, format!("[{frames}]"), stack.truncated])?;
    }
    Ok(())
}

/// Adds to the totals by code.
pub(super) fn write_tallies(transaction: &Transaction, tallies: &BTreeMap<CodeGroup, Tally>) -> rusqlite::Result<()> {
    let mut write = transaction.prepare_cached(
        "INSERT INTO code_tally VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET opened = opened + ?4, closed = closed + ?5",
    )?;
    for (group, tally) in tallies {
        let stack = group.stack.map_or(NO_STACK, |key| i64::from(key.0));
        let counts = (tally.opened as i64, tally.closed as i64);
        write.execute(params![group.kind.name(), group.part.name(), stack, counts.0, counts.1])?;
    }
    Ok(())
}

/// What writes who opened lifetimes and who used them last.
pub(super) struct Statements<'a> {
    opener: CachedStatement<'a>,
    last_use: CachedStatement<'a>,
}

impl<'a> Statements<'a> {
    pub(super) fn prepare(transaction: &'a Transaction) -> rusqlite::Result<Self> {
        let opener = transaction.prepare_cached("INSERT OR REPLACE INTO opener VALUES (?, ?, ?, ?, ?)")?;
        Ok(Statements { opener, last_use: transaction.prepare_cached(WRITE_LAST_USE)? })
    }

    /// Writes what is known of a lifetime; what isn't stays as it was.
    pub(super) fn write(&mut self, lifetime: &Lifetime) -> rusqlite::Result<()> {
        if let Some(it) = &lifetime.opener {
            let stack = it.stack.map(|key| key.0);
            self.opener.execute(params![lifetime.id.0 as i64, stack, it.thread, it.tid, it.at.0])?;
        }
        lifetime.last_use.as_ref().map_or(Ok(()), |last| self.write_last_use(lifetime.id, last))
    }

    /// Writes what is new of a last use.
    pub(super) fn write_last_use(&mut self, id: LifetimeId, last: &LastUse) -> rusqlite::Result<()> {
        let messages: Vec<(i64, &str, bool)> = last.messages.iter().map(|it| (it.at.0, &*it.text, it.useful)).collect();
        let messages = (!messages.is_empty()).then(|| serde_json::to_string(&messages).ok()).flatten();
        let now = last.whereabouts.as_ref().map(|it| (it.at.0, it.stack.map(|key| key.0), &*it.words));
        self.last_use.execute(params![
            id.0 as i64,
            last.by.stack.map(|key| key.0),
            last.by.thread,
            last.by.tid,
            last.by.at.0,
            messages,
            now.and_then(|now| serde_json::to_string(&now).ok()),
        ])?;
        Ok(())
    }
}

/// Drops what is known of a lifetime that goes.
pub(super) fn forget(transaction: &Transaction, id: i64) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM opener WHERE lifetime = ?")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM last_use WHERE lifetime = ?")?.execute([id])?;
    Ok(())
}

/// The first recordings of this version lack these tables: nothing was seen then.
impl Recording {
    /// The stacks. One that can't be read was written by somebody else: it is unknown, and nothing else is lost by it.
    pub(super) fn stacks(&self) -> Result<BTreeMap<StackKey, Stack>, StoreError> {
        let sql = format!("SELECT key, frames, truncated FROM stack ORDER BY key LIMIT {STACKS_MAX}");
        let stacks = self.rows_if_there("stack", &sql, |row| {
            let frames: String = row.get(1)?;
            let truncated = row.get::<_, Option<String>>(2)?.map(String::into_boxed_str);
            let frames = serde_json::from_str::<Vec<FrameRead>>(&frames).ok();
            let stack = frames.map(|frames| Stack { frames: frames.into_iter().map(frame).collect(), truncated });
            Ok((StackKey(row.get(0)?), stack))
        })?;
        Ok(stacks.into_iter().filter_map(|(key, stack)| Some((key, stack?))).collect())
    }

    /// Who opened what, by the lifetime's number.
    pub(super) fn openers(&self) -> Result<HashMap<i64, Box<Use>>, StoreError> {
        let sql = "SELECT lifetime, stack, thread, tid, at FROM opener";
        Ok(self.rows_if_there("opener", sql, |row| Ok((row.get(0)?, Box::new(read_use(row)?))))?.into_iter().collect())
    }

    /// Who used what last, by the lifetime's number.
    pub(super) fn last_uses(&self) -> Result<HashMap<i64, Box<LastUse>>, StoreError> {
        let sql = "SELECT lifetime, stack, thread, tid, at, messages, now FROM last_use";
        let uses = self.rows_if_there("last_use", sql, |row| {
            let messages = row.get::<_, Option<String>>(5)?;
            let messages = messages.and_then(|it| serde_json::from_str::<Vec<(i64, Box<str>, bool)>>(&it).ok());
            let message = |(at, text, useful)| Message { at: Timestamp(at), text, useful };
            let now = row.get::<_, Option<String>>(6)?;
            let now = now.and_then(|it| serde_json::from_str::<(i64, Option<u32>, Box<str>)>(&it).ok());
            let last = LastUse {
                by: read_use(row)?,
                messages: messages.unwrap_or_default().into_iter().map(message).collect(),
                whereabouts: now.map(|(at, stack, words)| {
                    let stack = stack.map(StackKey);
                    Whereabouts { at: Timestamp(at), stack, words }
                }),
            };
            Ok((row.get(0)?, Box::new(last)))
        })?;
        Ok(uses.into_iter().collect())
    }

    /// The totals by code.
    pub(super) fn code_tallies(&self) -> Result<BTreeMap<CodeGroup, Tally>, StoreError> {
        let tallies =
            self.rows_if_there("code_tally", "SELECT kind, part, stack, opened, closed FROM code_tally", |row| {
                let (kind, part): (String, String) = (row.get(0)?, row.get(1)?);
                let stack = u32::try_from(row.get::<_, i64>(2)?).ok().map(StackKey);
                let tally = Tally { opened: row.get::<_, i64>(3)? as u64, closed: row.get::<_, i64>(4)? as u64 };
                Ok(Part::parse(&part).map(|part| (CodeGroup { kind: Kind::parse(&kind), part, stack }, tally)))
            })?;
        Ok(tallies.into_iter().flatten().collect())
    }

    fn rows_if_there<T>(
        &self,
        table: &str,
        sql: &str,
        read: impl FnMut(&Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        if self.has_table(table)? { self.rows(sql, read) } else { Ok(Vec::new()) }
    }
}

/// Columns 1 to 4 of a row.
fn read_use(row: &Row) -> rusqlite::Result<Use> {
    let thread: String = row.get(2)?;
    Ok(Use {
        stack: row.get::<_, Option<u32>>(1)?.map(StackKey),
        thread: thread.into(),
        tid: row.get(3)?,
        at: Timestamp(row.get(4)?),
    })
}

fn frame((function, file, line, module, via): FrameRead) -> Frame {
    // What is own is a matter of rules, which change: it is told at reading.
    Frame { function, file, line, module, via: Via::parse(&via), own: false }
}
