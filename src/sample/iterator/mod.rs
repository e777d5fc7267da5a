//! The fastest way to sample: the kernel's own iterator over the files of processes, which runs a program of ours
//! (`bpf/files.bpf.c`) on each. One pass gives every descriptor with its identity, addresses, bytes and last activity.
//!
//! Needs Linux 6.1 with BTF, `CAP_BPF` and `CAP_PERFMON`.

mod kernel_types;
mod link;
mod row;
#[cfg(test)]
mod tests;

pub(super) use row::{Clock, FileKind, ROW_BYTES, Row};

use aya::programs::{Iter, ProgramError};
use aya::{Ebpf, EbpfLoader};
use kernel_types::KernelTypes;
use link::Scope;
use rustix::thread::{CapabilitySet, capabilities};
use rustix::time::{ClockId, clock_getres};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

/// The kernel side, as `bpf/build.sh` compiled it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/dist/files.bpf.o"));

/// The kernel's function that stands for the iterator over the files of tasks.
const TARGET: &str = "task_file";

/// The kernel hands out at most 32 KiB a read.
const READ_BYTES: usize = 32 << 10;

/// What the buffer grows by: the rows of some 2,500 descriptors.
const BUFFER_STEP_BYTES: usize = 256 << 10;

/// Reads the files of processes from inside the kernel.
#[derive(Debug)]
pub(super) struct FileIterator {
    files: OwnedFd,
    ticks_per_second: f64,
    buffer: Vec<u8>,
}

/// Why the iterator can't be used here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unavailable {
    /// The kernel was built without its type information.
    #[error("this kernel has no type information (/sys/kernel/btf/vmlinux; CONFIG_DEBUG_INFO_BTF)")]
    NoBtf,
    /// Capabilities are lacking, by their names.
    #[error("BPF needs {0}, or CAP_SYS_ADMIN")]
    NoPermission(String),
    /// We have them, and the kernel refuses nonetheless.
    #[error(
        "the kernel refuses BPF in spite of our capabilities: they are of another user namespace than the machine's, or a seccomp filter forbids it"
    )]
    Refused,
    /// Before Linux 6.1 the iterator walks every process.
    #[error("this kernel can't walk the files of one process by BPF; Linux 6.1 and later can")]
    KernelTooOld,
    /// Anything else, by the words of the verifier or the system.
    #[error("the BPF file iterator can't be loaded: {0}")]
    Other(String),
}

impl FileIterator {
    /// Loads the programs. Takes a few milliseconds.
    pub(super) fn open() -> Result<Self, Unavailable> {
        check_capabilities()?;
        let types = KernelTypes::read(OBJECT, &format!("bpf_iter_{TARGET}")).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unavailable::NoBtf,
            _ => Unavailable::Other(error.to_string()),
        })?;
        let mut object =
            EbpfLoader::new().btf(Some(&types.structures)).load(OBJECT).map_err(|error| unavailable(&error))?;
        let files = load(&mut object, "files", &types)?;
        // Such a kernel would silently take one process for all.
        link::link(&files, Scope::Threads(std::process::id())).map_err(|error| match error.raw_os_error() {
            Some(libc::E2BIG | libc::EINVAL) => Unavailable::KernelTooOld,
            _ => Unavailable::Other(error.to_string()),
        })?;
        Ok(FileIterator { files, ticks_per_second: ticks_per_second()?, buffer: Vec::new() })
    }

    /// What a process has open now: what `/proc/PID/fd` lists, in that order. Of one that has ended there is nothing.
    pub(super) fn read(&mut self, pid: u32) -> io::Result<Rows<'_>> {
        let length = read_to_end(&self.files, Scope::Process(pid), &mut self.buffer)?;
        let end = length.checked_sub(ROW_BYTES).and_then(|at| Some((at, Row::new(self.buffer.get(at..)?)?.end()?)));
        let Some((rows, now)) = end else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel's rows are cut off"));
        };
        Ok(Rows { bytes: &self.buffer[..rows], clock: Clock { now, ticks_per_second: self.ticks_per_second } })
    }
}

/// The descriptors of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    bytes: &'a [u8],
    /// What the rows' times are held against.
    pub clock: Clock,
}

impl<'a> Rows<'a> {
    /// How many descriptors there are.
    pub(super) fn len(self) -> usize {
        self.bytes.len() / ROW_BYTES
    }

    /// All rows by the descriptors' numbers, [`ROW_BYTES`] each.
    pub(super) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// One after the other, by the descriptors' numbers.
    pub(super) fn iter(self) -> impl Iterator<Item = Row<'a>> {
        self.bytes.chunks_exact(ROW_BYTES).filter_map(Row::new)
    }
}

/// Runs a program over all files of `scope`, and says how much it wrote into `buffer`.
fn read_to_end(program: &OwnedFd, scope: Scope, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let link = link::link(program, scope)?;
    let mut iteration = link::iterate(&link)?;
    let mut length = 0;
    loop {
        if buffer.len() < length + READ_BYTES {
            buffer.resize(length + BUFFER_STEP_BYTES, 0);
        }
        match iteration.read(&mut buffer[length..]) {
            Ok(0) => return Ok(length),
            Ok(read) => length += read,
            // A million files in a row of which there was nothing to tell; or a signal.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Says which capabilities are lacking, before anything is read for nothing.
fn check_capabilities() -> Result<(), Unavailable> {
    let ours = capabilities(None).map_err(|error| Unavailable::Other(error.to_string()))?.effective;
    if ours.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(());
    }
    let needed = [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")];
    let lacking: Vec<&str> = needed.into_iter().filter(|(one, _)| !ours.contains(*one)).map(|(_, name)| name).collect();
    if lacking.is_empty() { Ok(()) } else { Err(Unavailable::NoPermission(lacking.join(" and "))) }
}

fn load(object: &mut Ebpf, name: &str, types: &KernelTypes) -> Result<OwnedFd, Unavailable> {
    let program = object.program_mut(name).ok_or_else(|| Unavailable::Other(format!("no program {name}")))?;
    let program: &mut Iter = program.try_into().map_err(|error: ProgramError| Unavailable::Other(error.to_string()))?;
    program.load(TARGET, &types.function).map_err(|error| unavailable(&error))?;
    let fd = program.fd().map_err(|error| unavailable(&error))?;
    fd.as_fd().try_clone_to_owned().map_err(|error| Unavailable::Other(error.to_string()))
}

/// What aya's error comes from: the kernel's refusal, or the last thing that the verifier said.
fn unavailable(error: &(dyn std::error::Error + 'static)) -> Unavailable {
    let mut words = error.to_string();
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(libc::EPERM) {
            return Unavailable::Refused;
        }
        if let Some(ProgramError::LoadError { io_error, verifier_log }) = error.downcast_ref() {
            if io_error.raw_os_error() == Some(libc::EPERM) {
                return Unavailable::Refused;
            }
            let log = verifier_log.to_string();
            let said = log.lines().rfind(|line| !line.is_empty() && !line.starts_with("processed "));
            words = format!("{io_error}: {}", said.unwrap_or("the verifier said nothing"));
        }
        cause = error.source();
    }
    Unavailable::Other(words)
}

/// The rate of the kernel's `jiffies` (`CONFIG_HZ`): the coarse clocks advance once a tick.
fn ticks_per_second() -> Result<f64, Unavailable> {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    let rate = (1e9 / tick.tv_nsec as f64).round();
    let plausible = tick.tv_sec == 0 && (24.0..=10_000.0).contains(&rate);
    plausible.then_some(rate).ok_or_else(|| Unavailable::Other(format!("a clock that ticks each {tick:?}")))
}
