//! The recording, the only place that opens SQLite, and the texts that stand in for one: logs of `unix_time,value` and CSVs of
//! lifetimes.
//!
//! The format is told in words in `docs/storage-format.md`.

mod backlog;
pub mod block;
mod code;
pub mod envelope;
mod error;
mod gone;
mod import;
pub mod input;
mod lifetime;
pub mod lifetimes;
pub mod log;
mod reader;
mod schema;
mod writer;

pub use backlog::{Backlog, Written};
pub use error::StoreError;
pub use reader::Recording;
pub use writer::{Retention, Writer};

#[cfg(test)]
mod tests;
