//! One walk over `/proc/PID/fd`: the numbers and links of a process' descriptors, into buffers that are used again.

use crate::sample::procfs::{ProcFs, ReadError};
use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use std::ops::Range;
use std::os::fd::OwnedFd;

/// What a walk found: `fd` and link of each descriptor, by number.
#[derive(Debug, Default)]
pub(in crate::sample) struct Walk {
    entries: Vec<(i32, Range<usize>)>,
    links: Vec<u8>,
    buffer: Vec<u8>,
}

impl Walk {
    /// Walks the process' descriptors. One that is closed meanwhile is left out. Gives the folder, to ask about them in.
    pub(in crate::sample) fn walk(&mut self, proc: &ProcFs, pid: u32) -> Result<OwnedFd, ReadError> {
        self.entries.clear();
        self.links.clear();
        let path = proc.folder(pid).join("fd");
        let failed = |error: Errno| match ReadError::of_process(pid, &path, error.into()) {
            // One that is ending belongs to root for its last moment and as a zombie, so it only seems closed to us.
            ReadError::Denied { .. } if proc.is_ending(pid) => ReadError::Gone(pid),
            error => error,
        };
        let folder =
            openat(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        for item in Dir::read_from(&folder).map_err(failed)? {
            let item = item.map_err(failed)?;
            let Some(fd) = item.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let link = match readlinkat(&folder, item.file_name(), std::mem::take(&mut self.buffer)) {
                Ok(link) => link.into_bytes(),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            };
            let begin = self.links.len();
            self.links.extend_from_slice(&link);
            self.entries.push((fd, begin..self.links.len()));
            self.buffer = link;
        }
        // The kernel lists them so already; a tree of a test may not.
        self.entries.sort_unstable_by_key(|(fd, _)| *fd);
        Ok(folder)
    }

    /// What the last walk found, by number.
    pub(in crate::sample) fn entries(&self) -> impl ExactSizeIterator<Item = (i32, &[u8])> {
        self.entries.iter().map(|(fd, place)| (*fd, &self.links[place.clone()]))
    }
}

/// The folder of a process' descriptors, and the link of one of them; `None` where it is gone or closed to us.
pub(super) fn one(proc: &ProcFs, pid: u32, fd: i32) -> Option<(OwnedFd, Vec<u8>)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, proc.folder(pid).join("fd"), flags, Mode::empty()).ok()?;
    let link = readlinkat(&folder, fd.to_string(), Vec::new()).ok()?.into_bytes();
    Some((folder, link))
}
