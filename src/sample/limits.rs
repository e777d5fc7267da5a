//! What the target runs against: the descriptors that each of its processes may have, the memory that its cgroups may.
//!
//! Every process has a descriptor limit of its own (`RLIMIT_NOFILE`, setrlimit(2)). Several together have room for the sum
//! of theirs; but the first to be full is the one that is nearest to its own, which is a series of its own.

use super::procfs::ProcFs;
use crate::model::{Limit, Reading, Unit};

/// The descriptors of the one process that is nearest to its limit, where the target has several.
const NEAREST_SERIES: &str = "process_descriptors";

/// The limits of these processes, and the reading of the one that is nearest to its own.
pub(super) fn of(proc: &ProcFs, pids: &[u32]) -> (Vec<Limit>, Option<Reading>) {
    let mut limits = Vec::new();
    let mut reading = None;
    let mut add = |name: &str, series: &str, value: u64| {
        limits.push(Limit { name: name.to_owned(), series: series.to_owned(), value: value as f64 });
    };
    let each: Vec<Option<u64>> = pids.iter().map(|pid| proc.descriptor_limit(*pid)).collect();
    // One without a limit has room for all.
    if let Some(sum) = each.iter().copied().sum::<Option<u64>>().filter(|sum| *sum > 0) {
        add("RLIMIT_NOFILE", "descriptors", sum);
    }
    if pids.len() > 1 {
        let counted = pids.iter().zip(&each).filter_map(|(pid, limit)| Some((proc.descriptor_count(*pid)?, (*limit)?)));
        let fullness = |&(count, limit): &(u64, u64)| count as f64 / limit.max(1) as f64;
        if let Some((count, limit)) = counted.max_by(|a, b| fullness(a).total_cmp(&fullness(b))) {
            add("RLIMIT_NOFILE", NEAREST_SERIES, limit);
            reading = Some(Reading { series: NEAREST_SERIES.to_owned(), unit: Unit::Count, value: Ok(count as f64) });
        }
    }
    if let Some(limit) = pids.iter().filter_map(|pid| proc.memory_limit(*pid)).min() {
        add("cgroup memory", "memory", limit);
    }
    (limits, reading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Processes with so many descriptors and such a limit.
    fn limits_of(processes: &[(usize, &str)]) -> (Vec<(String, f64)>, Option<f64>) {
        let folder = tempfile::tempdir().expect("a scratch folder");
        for (number, (count, limit)) in processes.iter().enumerate() {
            let process = folder.path().join((number + 1).to_string());
            fs::create_dir_all(process.join("fd")).expect("made");
            (0..*count).for_each(|fd| fs::write(process.join("fd").join(fd.to_string()), "").expect("written"));
            fs::write(process.join("limits"), format!("Max open files  {limit}  524288  files\n")).expect("written");
        }
        let pids: Vec<u32> = (1..=processes.len() as u32).collect();
        let (limits, reading) = of(&ProcFs::at(folder.path().to_owned()), &pids);
        let limits = limits.into_iter().map(|it| (it.series, it.value)).collect();
        (limits, reading.and_then(|it| it.value.ok()))
    }

    #[test]
    fn several_have_room_for_the_sum_and_the_fullest_binds() {
        let on = |series: &str, value: f64| (series.to_owned(), value);
        assert_eq!(limits_of(&[(5, "1024")]), (vec![on("descriptors", 1024.0)], None));
        let parent_and_workers = [(3, "1024"), (12, "40"), (20, "100")];
        let expected = vec![on("descriptors", 1164.0), on("process_descriptors", 40.0)];
        assert_eq!(
            limits_of(&parent_and_workers),
            (expected, Some(12.0)),
            "not the one with most, not the lowest limit"
        );
        let one_without = [(30, "unlimited"), (2, "40")];
        assert_eq!(limits_of(&one_without), (vec![on("process_descriptors", 40.0)], Some(2.0)));
        assert_eq!(limits_of(&[]), (Vec::new(), None));
    }
}
