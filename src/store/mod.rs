//! The recording, the only place that opens SQLite, and the logs of `unix_time,value` that stand in for one.

pub mod block;
pub mod envelope;
