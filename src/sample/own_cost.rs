//! What watching costs: our own CPU time, memory and descriptors.

use super::procfs::ProcFs;
use crate::model::Cost;
use rustix::time::{ClockId, clock_gettime};

/// What this process has used by now.
pub fn own_cost() -> Cost {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let own = std::process::id();
    Cost {
        cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        memory_bytes: ProcFs::system().status(own).ok().and_then(|status| status.rss_bytes).unwrap_or(0),
        descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64),
    }
}
