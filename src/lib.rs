//! `unclosed` finds what a running process opened and never closed.
//!
//! # Layout
//! In the order in which a number travels:
//!
//! - [`model`]: the nouns.
//! - `bpf`: loads what runs in the kernel (`bpf/` beside `src`), for the two that follow.
//! - `sample`: readers of the live system; hands on a [`model::Snapshot`] a tick.
//! - `ledger`: who opened it, who used it last and what was said, as the kernel tells.
//! - [`analyse`]: pure functions; first the difference of two snapshots (a [`model::Tick`]), then the verdict.
//! - `store`: the recording, the only place that opens SQLite; and the logs that stand in for one.
//! - `present`: text, JSON, CSV, the page.
//! - `cli`: flags as typed, options as meant, one file per verb.

pub mod analyse;
mod bpf;
pub mod cli;
pub mod ledger;
pub mod model;
pub mod present;
pub mod sample;
pub mod store;
