//! How much inotify a user may have: inotify(7), `/proc/sys/fs/inotify`.

use crate::model::Limit;
use crate::sample::procfs::ProcFs;

/// The limits on inotify watches and instances. They are per user (and user namespace): whatever else that user runs
/// counts against them too, so that they may be reached sooner than the target's own numbers say.
pub(in crate::sample) fn inotify_limits(proc: &ProcFs) -> Vec<Limit> {
    let of = [("max_user_watches", "inotify_watches"), ("max_user_instances", "descriptors:inotify")];
    let limits = of.into_iter().filter_map(|(file, series)| {
        let text = std::fs::read_to_string(proc.root().join("sys/fs/inotify").join(file)).ok()?;
        let value: u64 = text.trim().parse().ok()?;
        Some(Limit { name: format!("fs.inotify.{file}"), series: series.to_owned(), value: value as f64 })
    });
    limits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_tree_and_what_is_missing_is_unknown() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let sys = folder.path().join("sys/fs/inotify");
        std::fs::create_dir_all(&sys).expect("made");
        std::fs::write(sys.join("max_user_watches"), "8192\n").expect("written");
        let limits = inotify_limits(&ProcFs::at(folder.path().to_owned()));
        let limits: Vec<_> = limits.iter().map(|it| (it.name.as_str(), it.series.as_str(), it.value)).collect();
        assert_eq!(limits, [("fs.inotify.max_user_watches", "inotify_watches", 8_192.0)]);
    }
}
