//! Loads the kernel side, and says why where it can't be.

use super::kernel_types::KernelTypes;
use aya::maps::Map;
use aya::programs::{Iter, ProgramError};
use aya::{Ebpf, EbpfLoader};
use rustix::thread::{CapabilitySet, capabilities};
use rustix::time::{ClockId, clock_getres};
use std::error::Error;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The kernel's function that stands for the iterator over the files of tasks.
const TARGET: &str = "task_file";

/// Why the iterator can't be used here.
#[derive(Debug, thiserror::Error)]
pub(in crate::sample) enum Unavailable {
    /// The kernel was built without its type information.
    #[error("this kernel has no type information (/sys/kernel/btf/vmlinux; CONFIG_DEBUG_INFO_BTF)")]
    NoBtf,
    /// Capabilities are lacking, by their names.
    #[error("BPF needs {0} (or CAP_SYS_ADMIN, which has both)")]
    NoPermission(String),
    /// We have them, and the kernel refuses nonetheless.
    #[error(
        "the kernel refuses BPF in spite of our capabilities: they count in a user namespace only, or a seccomp filter or the lockdown mode forbids it"
    )]
    Refused,
    /// Before Linux 6.1 the iterator walks every process.
    #[error("this kernel can't walk the files of one process by BPF; Linux 6.1 and later can")]
    KernelTooOld,
    /// Anything else, in the words of the verifier or the system.
    #[error("the BPF file iterator can't be loaded: {0}")]
    Other(String),
}

impl Unavailable {
    pub(super) fn other(why: impl std::fmt::Display) -> Self {
        Unavailable::Other(why.to_string())
    }
}

/// An object whose maps are made and whose programs are about to be loaded. What is taken out of it outlives it.
pub(super) struct Object {
    types: KernelTypes,
    object: Ebpf,
}

impl Object {
    /// Makes an object of `bpf/dist` fit the running kernel.
    pub(super) fn open(bytes: &[u8]) -> Result<Self, Unavailable> {
        check_capabilities()?;
        let types = KernelTypes::read(bytes, &format!("bpf_iter_{TARGET}")).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unavailable::NoBtf,
            _ => Unavailable::other(error),
        })?;
        let object = EbpfLoader::new().btf(Some(&types.structures)).load(bytes);
        Ok(Object { object: object.map_err(|error| unavailable(&error))?, types })
    }

    /// Loads a program.
    pub(super) fn program(&mut self, name: &str) -> Result<OwnedFd, Unavailable> {
        let program = self.object.program_mut(name).ok_or_else(|| Unavailable::other(format!("no program {name}")))?;
        let program: &mut Iter = program.try_into().map_err(|error: ProgramError| Unavailable::other(error))?;
        program.load(TARGET, &self.types.function).map_err(|error| unavailable(&error))?;
        let fd = program.fd().map_err(|error| unavailable(&error))?;
        fd.as_fd().try_clone_to_owned().map_err(Unavailable::other)
    }

    /// Takes a map.
    pub(super) fn map(&mut self, name: &str) -> Result<Map, Unavailable> {
        self.object.take_map(name).ok_or_else(|| Unavailable::other(format!("no map {name}")))
    }
}

/// Says which capabilities are lacking, before anything is read for nothing.
fn check_capabilities() -> Result<(), Unavailable> {
    let ours = capabilities(None).map_err(Unavailable::other)?.effective;
    if ours.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(());
    }
    let needed = [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")];
    let lacking: Vec<&str> = needed.into_iter().filter(|(one, _)| !ours.contains(*one)).map(|(_, name)| name).collect();
    if lacking.is_empty() { Ok(()) } else { Err(Unavailable::NoPermission(lacking.join(" and "))) }
}

/// What aya's error comes from: the kernel's refusal, or the last thing that the verifier said.
fn unavailable(error: &(dyn Error + 'static)) -> Unavailable {
    let mut words = error.to_string();
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(libc::EPERM) {
            return Unavailable::Refused;
        }
        if let Some(ProgramError::LoadError { io_error, verifier_log }) = error.downcast_ref() {
            let log = verifier_log.to_string();
            let said = log.lines().rfind(|line| !line.is_empty() && !line.starts_with("processed "));
            words = format!("{io_error}: {}", said.unwrap_or("the verifier said nothing"));
        }
        cause = error.source();
    }
    Unavailable::Other(words)
}

/// The rate of the kernel's `jiffies` (`CONFIG_HZ`): the coarse clocks advance once a tick.
pub(super) fn ticks_per_second() -> Result<f64, Unavailable> {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    let rate = (1e9 / tick.tv_nsec as f64).round();
    let plausible = tick.tv_sec == 0 && (24.0..=10_000.0).contains(&rate);
    plausible.then_some(rate).ok_or_else(|| Unavailable::other(format!("a clock that ticks each {tick:?}")))
}
