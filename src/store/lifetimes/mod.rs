//! CSVs of lifetimes: a line for each connection, as a proxy, a driver or one's own logging writes them.
//!
//! The header is [`HEADER`]; only the first three columns must be there. `conn_id` is any text. An empty `closed_ts` is a
//! connection that is open at the end, and the end is the latest time in the file. Connections are TCP; a `remote` that is
//! a path makes one a Unix socket, and a column `kind` (`tcp`, `udp`, `unix`) tells it outright.
//!
//! Lines may come in any order. What can't be true (closed before it was opened) is skipped and told. A connection that is
//! told twice, by the same id and time of opening, counts once: the line that closes it, for whoever appends a line at each
//! change writes it last. The same id at another time of opening is another connection.
//!
//! Memory is taken by what is open at the end, by a uniform sample of what was closed and by counts of all: it doesn't grow
//! with the number of lines.

mod counts;
mod header;
mod reader;

pub use header::HEADER;
pub(super) use header::Header;
pub(super) use reader::Reader;

use crate::model::{Population, Series, Timestamp};

/// What a CSV of lifetimes says.
#[derive(Clone, Debug)]
pub struct Lifetimes {
    /// What is open at the end, and what was closed.
    pub population: Population,
    /// `connections`, and `connections:REMOTE` of the first remotes.
    pub series: Vec<Series>,
    /// The moments at which these are counted, from the first opening on; the last is the latest time of all.
    pub times: Vec<Timestamp>,
    /// The counts, for each of the series as many as there are times.
    pub columns: Vec<Vec<f64>>,
    /// The distance of these moments, in seconds.
    pub every_seconds: f64,
    /// What was skipped, assumed or put right: one sentence each.
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests;
