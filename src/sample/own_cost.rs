//! What watching costs: our own CPU time, memory and descriptors.

use crate::model::{Cost, Reading, Unit};
use rustix::time::{ClockId, clock_gettime};
use std::fs;

/// The steps in which memory is recorded. A page more or less tells nothing, and a number that seldom changes takes no
/// room in a recording.
const MEMORY_STEP_BYTES: f64 = 65_536.0;

/// What this process has used by now.
pub fn own_cost() -> Cost {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Cost {
        cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        memory_bytes: resident_bytes(),
        descriptors: descriptors(),
        share: None,
    }
}

/// The same as readings of series: CPU time to the millisecond.
pub fn own_readings(cost: &Cost) -> Vec<Reading> {
    let reading = |series: &str, unit, value| Reading { series: series.into(), unit, value: Ok(value) };
    let mut readings = vec![reading("own:cpu_seconds", Unit::Seconds, (cost.cpu_seconds * 1e3).round() / 1e3)];
    let memory = cost.memory_bytes.map(|bytes| (bytes as f64 / MEMORY_STEP_BYTES).round() * MEMORY_STEP_BYTES);
    readings.extend(memory.map(|bytes| reading("own:memory", Unit::Bytes, bytes)));
    readings.extend(cost.descriptors.map(|count| reading("own:descriptors", Unit::Count, count as f64)));
    readings
}

/// The second number of `/proc/self/statm` (proc_pid_statm(5)): resident pages.
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn descriptors() -> Option<u64> {
    // The folder's size since Linux 6.2; 0 before, and then they are counted, less the one that counts.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_have_used_something_and_hold_something() {
        let cost = own_cost();
        assert!(cost.cpu_seconds > 0.0 && cost.memory_bytes > Some(1 << 20) && cost.descriptors >= Some(3), "{cost:?}");
        let names: Vec<String> = own_readings(&cost).into_iter().map(|reading| reading.series).collect();
        assert_eq!(names, ["own:cpu_seconds", "own:memory", "own:descriptors"]);
    }
}
