//! Which descriptors are one open file, made by `dup`, by `fork` or by passing it over a Unix socket: kcmp(2), which needs
//! the permission that reading their links needs. It also puts files in an order that lasts until the next boot, so that
//! a new one is looked up among those known by halving.
//!
//! Only what can be the same is compared: descriptors of one class, which is one inode, or one sort of anonymous inode.

#![allow(unsafe_code)]

use super::super::procfs::ProcFs;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// `KCMP_FILE` of `linux/kcmp.h`: compares two descriptors.
const KCMP_FILE: libc::c_int = 0;
/// `KCMP_VM`: compares the memory of two processes; of one with itself it only asks whether the call works.
const KCMP_VM: libc::c_int = 1;

/// A descriptor: whose, and its number there.
type Holder = (u32, i32);

/// The open files that some descriptor refers to, each under a number that is never given again.
#[derive(Debug)]
pub(super) struct SameFile {
    works: bool,
    next: u64,
    /// By class, the files in the kernel's order.
    classes: HashMap<u64, Vec<u64>>,
    /// The descriptors that refer to a file. Any of them stands for it.
    holders: HashMap<u64, Vec<Holder>>,
}

impl SameFile {
    /// Nothing is known yet. Of a tree that is not `/proc`, or is another pid namespace's, no process can be asked for.
    pub(super) fn new(proc: &ProcFs) -> Self {
        let own = std::process::id();
        let named = std::fs::read_link(proc.root().join("self"));
        let ours = proc.root() == Path::new("/proc") && named.is_ok_and(|it| it == Path::new(&own.to_string()));
        let works = ours && kcmp(KCMP_VM, (own, 0), (own, 0)) == Some(0);
        SameFile { works, next: 0, classes: HashMap::new(), holders: HashMap::new() }
    }

    /// True where the kernel compares descriptors for us: not without `CONFIG_KCMP`, nor where a seccomp filter refuses.
    pub(super) fn works(&self) -> bool {
        self.works
    }

    /// The number of the file that the descriptor refers to; `None` where the kernel doesn't tell, as of one that is
    /// closed by now.
    pub(super) fn join(&mut self, class: u64, new: Holder) -> Option<u64> {
        if !self.works {
            return None;
        }
        let order = self.classes.entry(class).or_default();
        let (mut low, mut high) = (0, order.len());
        while low < high {
            let middle = low.midpoint(high);
            let number = order[middle];
            match compare(self.holders.get(&number).map_or(&[], Vec::as_slice), new) {
                Some(Ordering::Equal) => {
                    self.holders.entry(number).or_default().push(new);
                    return Some(number);
                }
                Some(Ordering::Less) => low = middle + 1,
                Some(Ordering::Greater) => high = middle,
                None if compare(&[new], new).is_none() => return None,
                // All that referred to it were closed since we looked at their processes: it can't be found any more.
                None => {
                    order.remove(middle);
                    high -= 1;
                }
            }
        }
        self.next += 1;
        order.insert(low, self.next);
        self.holders.insert(self.next, vec![new]);
        Some(self.next)
    }

    /// Takes descriptors that are closed away: class and number of the file each referred to, and which it was.
    pub(super) fn leave(&mut self, gone: impl Iterator<Item = (u64, u64, Holder)>) {
        let mut emptied = HashSet::new();
        for (class, number, holder) in gone {
            let Some(holders) = self.holders.get_mut(&number) else { continue };
            holders.retain(|it| *it != holder);
            if holders.is_empty() {
                self.holders.remove(&number);
                emptied.insert(class);
            }
        }
        for class in emptied {
            let Some(order) = self.classes.get_mut(&class) else { continue };
            order.retain(|number| self.holders.contains_key(number));
            if order.is_empty() {
                self.classes.remove(&class);
            }
        }
    }
}

/// How the file that `known` refer to stands to that of `new`; `None` where none of them can be compared any more.
fn compare(known: &[Holder], new: Holder) -> Option<Ordering> {
    known.iter().find_map(|known| match kcmp(KCMP_FILE, *known, new)? {
        0 => Some(Ordering::Equal),
        1 => Some(Ordering::Less),
        2 => Some(Ordering::Greater),
        // 3: they differ and have no order.
        _ => None,
    })
}

/// The system call; `None` where it fails: a descriptor or process is gone, or we may not.
fn kcmp(what: libc::c_int, one: Holder, other: Holder) -> Option<libc::c_long> {
    let (pid, other_pid) = (libc::pid_t::try_from(one.0).ok()?, libc::pid_t::try_from(other.0).ok()?);
    let (fd, other_fd) = (libc::c_ulong::try_from(one.1).ok()?, libc::c_ulong::try_from(other.1).ok()?);
    // SAFETY: kcmp(2) takes five numbers, reads no memory of ours and changes nothing.
    let told = unsafe { libc::syscall(libc::SYS_kcmp, pid, other_pid, what, fd, other_fd) };
    (told >= 0).then_some(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::os::fd::{AsRawFd, OwnedFd};

    fn eventfds(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| eventfd(0, EventfdFlags::CLOEXEC).expect("opens")).collect()
    }

    /// Under numbers that nothing else is given: tests run side by side in one process.
    fn apart(from: Vec<OwnedFd>) -> Vec<OwnedFd> {
        from.into_iter().map(|it| rustix::io::fcntl_dupfd_cloexec(it, 900).expect("duplicated")).collect()
    }

    /// The number of each one's file, asked in turn.
    fn join(files: &mut SameFile, ours: &[OwnedFd]) -> Vec<u64> {
        let holders = ours.iter().map(|it| (std::process::id(), it.as_raw_fd()));
        holders.map(|holder| files.join(1, holder).expect("kcmp works")).collect()
    }

    #[test]
    fn duplicates_are_found_among_many_of_their_class() {
        let mut files = SameFile::new(&ProcFs::system());
        if !files.works() {
            eprintln!("SKIPPED: kcmp is refused here");
            return;
        }
        let ours = eventfds(300);
        let numbers = join(&mut files, &ours);
        assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), ours.len());
        let copies: Vec<OwnedFd> = ours.iter().map(|it| it.try_clone().expect("duplicated")).collect();
        assert_eq!(join(&mut files, &copies), numbers);
        // The first ones are closed: those that are left stand for the files.
        let own = std::process::id();
        let gone: Vec<_> = ours.iter().zip(&numbers).map(|(it, number)| (1, *number, (own, it.as_raw_fd()))).collect();
        drop(ours);
        files.leave(gone.into_iter());
        let again: Vec<OwnedFd> = copies.iter().map(|it| it.try_clone().expect("duplicated")).collect();
        assert_eq!(join(&mut files, &again), numbers);
    }

    #[test]
    fn what_was_closed_behind_our_back_is_passed_over_and_what_all_have_left_is_forgotten() {
        let mut files = SameFile::new(&ProcFs::system());
        if !files.works() {
            eprintln!("SKIPPED: kcmp is refused here");
            return;
        }
        let mut ours = apart(eventfds(20));
        let numbers = join(&mut files, &ours);
        let own = std::process::id();
        assert_eq!(files.join(1, (own, 999_999)), None, "not open");
        let holders: Vec<_> = ours.iter().map(|it| (own, it.as_raw_fd())).collect();
        let copy = ours[7].try_clone().expect("duplicated");
        // Every other one is closed, and nobody has told.
        let mut place = 0;
        ours.retain(|_| {
            place += 1;
            place % 2 == 0
        });
        assert_eq!(join(&mut files, &[copy]), [numbers[7]]);
        files.leave(numbers.iter().zip(holders).map(|(number, holder)| (1, *number, holder)));
        assert_eq!((files.classes.len(), files.holders.len()), (1, 1), "the copy is left");
    }

    #[test]
    fn a_tree_that_is_not_proc_has_nothing_to_compare() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let mut files = SameFile::new(&ProcFs::at(folder.path().to_owned()));
        assert!(!files.works());
        assert_eq!(files.join(1, (std::process::id(), 0)), None);
    }
}
