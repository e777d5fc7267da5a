//! A process of the target, read from outside: its mappings, its memory, the files behind them, where its threads wait.
//!
//! Formats: proc_pid_maps(5), proc_pid_map_files(5), proc_pid_syscall(5). Nothing here stops the process or writes to it.

use super::raw::Registers;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A mapping of `/proc/PID/maps`: of a file, of something with a name in brackets, or of code that was made at run time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mapping {
    /// From this address.
    pub start: u64,
    /// Up to this one.
    pub end: u64,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// True where code may be run in it.
    pub is_executable: bool,
    /// The file system's device as the kernel writes it, `fe:00`; of what is no file `00:00`.
    pub device: String,
    /// The file's number in its file system; 0 of what is no file.
    pub inode: u64,
    /// True where the file has lost its name, or its name has gone to another.
    pub is_deleted: bool,
    /// The file's path as the process has it, without ` (deleted)`; in brackets what is no file: `[vdso]`; empty for code without a file.
    pub path: String,
}

/// Where a thread waits in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// The system call's number; `None` where it waits for something else, as a page fault.
    pub call: Option<u64>,
    /// The call's arguments; zeroes outside of a call.
    pub arguments: [u64; 6],
    /// Instruction and stack pointer; the kernel doesn't tell the frame pointer.
    pub registers: Registers,
}

/// A process as it is now.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    /// `/proc/PID`.
    folder: PathBuf,
    mappings: Vec<Mapping>,
    memory: File,
}

impl Process {
    /// Reads the mappings and opens the memory of a process.
    ///
    /// # Errors
    /// Where it has ended, or we may not trace it.
    pub(super) fn open(proc: &Path, pid: u32) -> io::Result<Process> {
        let folder = proc.join(pid.to_string());
        let memory = File::open(folder.join("mem"))?;
        let mappings = read_mappings(&folder)?;
        Ok(Process { pid, folder, mappings, memory })
    }

    /// Its pid in our namespace.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its mappings as of the last look, in the order of addresses.
    pub(super) fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// The mapping that holds an address, as of the last look.
    pub(super) fn mapping_at(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|mapping| mapping.end <= address);
        self.mappings.get(after).filter(|mapping| mapping.start <= address)
    }

    /// Looks at the mappings again: libraries come later too, and an `exec` replaces all. True where they have changed.
    ///
    /// # Errors
    /// Where the process has ended.
    pub(super) fn refresh(&mut self) -> io::Result<bool> {
        let mappings = read_mappings(&self.folder)?;
        if mappings == self.mappings {
            return Ok(false);
        }
        // After an `exec` the open file would still be the memory from before.
        self.memory = File::open(self.folder.join("mem"))?;
        self.mappings = mappings;
        Ok(true)
    }

    /// Reads memory at an address, all that was asked for.
    ///
    /// # Errors
    /// Where some of it isn't mapped, or the process has ended.
    pub(super) fn read(&self, address: u64, to: &mut [u8]) -> io::Result<()> {
        self.memory.read_exact_at(to, address)
    }

    /// Reads one word of memory.
    ///
    /// # Errors
    /// As [`Process::read`].
    pub(super) fn word(&self, address: u64) -> io::Result<u64> {
        let mut word = [0; 8];
        self.read(address, &mut word)?;
        Ok(u64::from_ne_bytes(word))
    }

    /// The copy of a stack from `sp` upwards, of at most `most_bytes` and no further than its mapping; true where it goes on.
    ///
    /// # Errors
    /// As [`Process::read`].
    pub(super) fn stack(&self, sp: u64, most_bytes: usize) -> io::Result<(Vec<u8>, bool)> {
        let mut stack = vec![0; most_bytes];
        let mut read = 0;
        while read < most_bytes {
            match self.memory.read_at(&mut stack[read..], sp.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(_) if read > 0 => break,
                Err(error) => return Err(error),
            }
        }
        stack.truncate(read);
        Ok((stack, read == most_bytes))
    }

    /// Opens the very file behind a mapping.
    ///
    /// # Errors
    /// Where it has no name any more (or its name is another file's now) and we lack what the kernel asks for to open it by its mapping.
    pub(super) fn file(&self, mapping: &Mapping) -> io::Result<File> {
        // Needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE, and is always the right file.
        let by_mapping = self.folder.join(format!("map_files/{:x}-{:x}", mapping.start, mapping.end));
        if let Ok(file) = File::open(by_mapping) {
            return Ok(file);
        }
        if mapping.is_deleted {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it was deleted or replaced since it was started"));
        }
        let file = self.in_root(&mapping.path)?;
        // The device is no proof against: overlayfs and btrfs tell another one here than there.
        if file.metadata()?.ino() != mapping.inode {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it was replaced since it was started"));
        }
        Ok(file)
    }

    /// Its root, as we reach it. Links below it that begin with `/` lead to ours.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Opens a file by its path in the process' own root.
    ///
    /// # Errors
    /// Where there is none, it is no regular file, or we may not.
    pub(super) fn in_root(&self, path: &str) -> io::Result<File> {
        let root = rustix::fs::open(self.folder.join("root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let path = path.trim_start_matches('/');
        // A pipe in the place of a file must not hold us up.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        // The links in a container lead within it (Linux 5.6 or later).
        let file = match rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Err(Errno::NOSYS) => rustix::fs::openat(&root, path, flags, Mode::empty())?,
            opened => opened?,
        };
        let file = File::from(file);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
        }
    }

    /// A thread's number in the process' own pid namespace, the last of `NSpid`.
    pub(super) fn tid_inside(&self, tid: u32) -> Option<u32> {
        let status = fs::read_to_string(self.folder.join(format!("task/{tid}/status"))).ok()?;
        status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().last()?.parse().ok()
    }

    /// The inode of the socket that a descriptor leads to.
    pub(super) fn socket_inode(&self, fd: i32) -> Option<u64> {
        let link = fs::read_link(self.folder.join(format!("fd/{fd}"))).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    }

    /// Where one of its threads waits; `None` while it runs.
    ///
    /// # Errors
    /// Where the thread has ended, or we may not trace it.
    pub(super) fn waiting(&self, tid: u32) -> io::Result<Option<Waiting>> {
        Ok(parse_waiting(&fs::read_to_string(self.folder.join(format!("task/{tid}/syscall")))?))
    }
}

/// Reads `/proc/PID/maps`.
fn read_mappings(folder: &Path) -> io::Result<Vec<Mapping>> {
    // A path may hold any byte but a newline.
    let text = fs::read(folder.join("maps"))?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(parse_mapping).collect())
}

/// One line of it; `None` for data without a name, of which nothing is asked.
fn parse_mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let (rights, offset, device, inode) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let path = fields.next().unwrap_or_default().trim_start();
    let is_executable = rights.contains('x');
    if path.is_empty() && !is_executable {
        return None;
    }
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let kept = path.strip_suffix(" (deleted)");
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
        is_executable,
        device: device.to_owned(),
        inode: inode.parse().ok()?,
        is_deleted: kept.is_some(),
        // The kernel writes a newline in a path as octal.
        path: kept.unwrap_or(path).replace("\\012", "\n"),
    })
}

/// The line of `/proc/PID/task/TID/syscall`: `running`, `-1 SP PC`, or `NUMBER` with six arguments, `SP` and `PC`.
fn parse_waiting(line: &str) -> Option<Waiting> {
    let (number, rest) = line.trim().split_once(' ')?;
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let words: Vec<u64> = rest.split(' ').map_while(hex).collect();
    let [arguments @ .., sp, ip] = words.as_slice() else { return None };
    Some(Waiting {
        call: number.parse().ok(),
        arguments: arguments.first_chunk().copied().unwrap_or_default(),
        registers: Registers { ip: *ip, sp: *sp, bp: 0, lr: 0 },
    })
}
