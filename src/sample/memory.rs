//! Memory and threads, as `/proc/PID/status` tells them to everyone.

use super::procfs::Status;
use crate::model::{Reading, Unit};

/// Memory and threads of the target's processes together.
#[derive(Default)]
pub(super) struct Memory {
    /// How many were added.
    pub processes: usize,
    rss_bytes: Option<u64>,
    anonymous_bytes: Option<u64>,
    threads: u64,
}

impl Memory {
    /// Adds a process.
    pub(super) fn add(&mut self, status: &Status) {
        let sum = |all: &mut Option<u64>, one: Option<u64>| {
            if let Some(one) = one {
                *all = Some(all.unwrap_or(0) + one);
            }
        };
        self.processes += 1;
        sum(&mut self.rss_bytes, status.rss_bytes);
        sum(&mut self.anonymous_bytes, status.anonymous_bytes);
        self.threads += status.threads;
    }

    /// What they take together, as readings.
    pub(super) fn readings(&self, out: &mut Vec<Reading>) {
        let bytes = [("memory", self.rss_bytes), ("memory:anonymous", self.anonymous_bytes)];
        for (series, value) in bytes {
            if let Some(value) = value {
                out.push(Reading { series: series.into(), unit: Unit::Bytes, value: Ok(value as f64) });
            }
        }
        out.push(Reading { series: "threads".into(), unit: Unit::Count, value: Ok(self.threads as f64) });
    }
}
