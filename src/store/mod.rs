//! The recording, the only place that opens SQLite, and the logs of `unix_time,value` that stand in for one.
//!
//! The format is told in words in `docs/storage-format.md`.

mod backlog;
pub mod block;
pub mod envelope;
mod error;
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
