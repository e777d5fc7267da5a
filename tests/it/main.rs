//! `unclosed` as its users meet it: the real binary on real processes, beside `lsof`, `ss`, PostgreSQL, a browser.
//!
//! A theme a file. `act` has the words the cases are written in. What this machine or user lacks makes a case print
//! `skipped: why`; `./test` sees to it that nothing is lacking.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod act;
mod bpf;
mod cost;
mod crash;
mod demo;
mod doctor;
mod doctor_ledger;
mod full_disk;
mod kinds;
mod layers;
mod leakers;
mod ledger;
mod left_open;
mod lifetimes_csv;
mod list;
mod lsof_fields;
mod metric;
mod on_leak;
mod page;
mod plotly;
mod postgres;
mod record;
mod run;
mod screen;
mod select;
mod sockets;
mod top;
mod verdict;
mod ways;
mod who;
mod window;
mod wrong;
