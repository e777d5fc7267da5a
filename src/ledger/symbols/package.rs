//! Which package of the distribution a file came with, by Debian's records: it names the one that has its debug information, and
//! tells the system's files from the user's own.
//!
//! Format: dpkg(1), `/var/lib/dpkg/info/PACKAGE.list` and `PACKAGE:ARCHITECTURE.list`: a path a line.

use crate::ledger::process::Process;
use std::collections::HashMap;
use std::fs;
use std::io::Read;

/// In the target's root.
const RECORDS: &str = "var/lib/dpkg/info";

/// The longest list that is read, in bytes: that of a package with some hundred thousand files.
const LIST_BYTES_MAX: u64 = 16 << 20;

/// The packages of those of these paths that came with one; `None` where the target's root has no such records.
pub(in crate::ledger) fn of<'p>(process: &Process, paths: &[&'p str]) -> Option<HashMap<&'p str, String>> {
    let wanted: HashMap<&str, &'p str> = paths.iter().map(|path| (merged(path), *path)).collect();
    let mut found = HashMap::new();
    for entry in fs::read_dir(process.root().join(RECORDS)).ok()?.flatten() {
        let name = entry.file_name();
        let Some(package) = name.to_str().and_then(|name| name.strip_suffix(".list")) else { continue };
        let mut list = String::new();
        let read = process.in_root(&format!("{RECORDS}/{package}.list"));
        if read.and_then(|file| file.take(LIST_BYTES_MAX).read_to_string(&mut list)).is_err() {
            continue;
        }
        let package = package.split(':').next().unwrap_or(package);
        let listed = list.lines().filter_map(|line| wanted.get(merged(line)));
        found.extend(listed.map(|path| (*path, package.to_owned())));
    }
    Some(found)
}

/// A path as it was before `/lib` and its like became links into `/usr`: packages name either.
fn merged(path: &str) -> &str {
    path.strip_prefix("/usr").filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn either_name_of_a_path_is_known() {
        let paths = ["/usr/lib/x/libc.so.6", "/lib/x/libc.so.6", "/usrlocal/a", "/opt/usr/b"];
        assert_eq!(paths.map(merged), ["/lib/x/libc.so.6", "/lib/x/libc.so.6", "/usrlocal/a", "/opt/usr/b"]);
    }
}
