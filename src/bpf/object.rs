//! Loads the kernel side, and says why where it can't be.

use super::kernel_types::{KernelTypes, tracepoint};
use super::sys::{self, Hook, Map, Program};
use aya_obj::btf::BtfFeatures;
use rustix::thread::{CapabilitySet, capabilities};
use rustix::time::{ClockId, clock_getres};
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;

/// The kernel's functions that stand for the iterators over the files of tasks and over tasks themselves.
const ITERATORS: [&str; 2] = ["bpf_iter_task_file", "bpf_iter_task"];

/// The kernel side, as `bpf/build.sh` compiled it.
pub(crate) static FILES: &ObjectFile<[u8]> = &ObjectFile(*include_bytes!("../../bpf/dist/files.bpf.o"));
pub(crate) static ENDS: &ObjectFile<[u8]> = &ObjectFile(*include_bytes!("../../bpf/dist/ends.bpf.o"));
pub(crate) static LEDGER: &ObjectFile<[u8]> = &ObjectFile(*include_bytes!("../../bpf/dist/ledger.bpf.o"));
pub(crate) static MACHINE: &ObjectFile<[u8]> = &ObjectFile(*include_bytes!("../../bpf/dist/machine.bpf.o"));

/// What they need of the running kernel's types. To read it is most of what loading costs, so it is kept.
static TYPES: OnceLock<KernelTypes> = OnceLock::new();

/// How often a program is handed to the kernel again that gave up verifying it for a signal to us.
const ATTEMPTS_MAX: usize = 8;

/// Enough for all that the verifier objects to.
const LOG_BYTES: usize = 64 << 10;

/// What the verifier's figures begin with, which follow what it objects to.
const STATISTICS: &str = "verification time ";

/// Why the iterator can't be used here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unavailable {
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
    #[error("the BPF programs can't be loaded: {0}")]
    Other(String),
}

impl Unavailable {
    pub(crate) fn other(why: impl std::fmt::Display) -> Self {
        Unavailable::Other(why.to_string())
    }

    /// What the kernel answered to a call of bpf(2).
    fn answered(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM) => Unavailable::Refused,
            _ => Unavailable::other(error),
        }
    }

    /// That an object doesn't fit, with all causes.
    fn unfit(error: &(dyn Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(error), |error| (*error).source());
        Unavailable::Other(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
    }
}

/// An object file as it is embedded: aligned as reading it in place needs.
#[repr(C, align(8))]
pub(crate) struct ObjectFile<Bytes: ?Sized>(pub Bytes);

/// An object whose maps are made and whose programs are about to be loaded. What is taken out of it outlives it.
pub(crate) struct Object {
    object: aya_obj::Object,
    maps: HashMap<String, Map>,
    /// The numbers of [`ITERATORS`].
    iterators: [u32; 2],
    /// Its own types in the kernel, where a program needs them.
    types: Option<OwnedFd>,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Object").field("maps", &self.maps).finish_non_exhaustive()
    }
}

impl Object {
    /// Makes an object of `bpf/dist` fit the running kernel.
    pub(crate) fn open(file: &ObjectFile<[u8]>) -> Result<Self, Unavailable> {
        check_capabilities()?;
        let types = kernel_types()?;
        let mut object = aya_obj::Object::parse(&file.0).map_err(|error| Unavailable::unfit(&error))?;
        let structures = types.structures().map_err(|error| Unavailable::unfit(&error))?;
        object.relocate_btf(&structures).map_err(|error| Unavailable::unfit(&error))?;
        let definitions = std::mem::take(&mut object.maps);
        let make = |(name, map): (&String, &aya_obj::Map)| Ok((name.clone(), Map::create(name, map)?));
        let maps: io::Result<HashMap<String, Map>> = definitions.iter().map(make).collect();
        let maps = maps.map_err(|error| Unavailable::answered(&error))?;
        let made = maps.iter().map(|(name, map)| (name.as_str(), map.as_fd().as_raw_fd(), &definitions[name]));
        let code: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(made, &code).map_err(|error| Unavailable::unfit(&error))?;
        object.relocate_calls(&code).map_err(|error| Unavailable::unfit(&error))?;
        Ok(Object { object, maps, iterators: types.functions, types: None })
    }

    /// Loads a program that is run for each file of an iteration.
    pub(crate) fn program(&self, name: &str) -> Result<OwnedFd, Unavailable> {
        self.iterator(name, self.iterators[0])
    }

    /// Loads a program that is run for each thread of an iteration.
    pub(crate) fn of_threads(&self, name: &str) -> Result<OwnedFd, Unavailable> {
        self.iterator(name, self.iterators[1])
    }

    /// Loads a program that is run whenever a process passes an instruction.
    pub(crate) fn of_instructions(&self, name: &str) -> Result<OwnedFd, Unavailable> {
        let function = self.function(name)?;
        let (instructions, license) = (function.instructions.as_slice(), self.object.license.as_c_str());
        load(&Program { name, instructions, license, target: 0, hook: Hook::Instruction })
    }

    fn iterator(&self, name: &str, target: u32) -> Result<OwnedFd, Unavailable> {
        let function = self.function(name)?;
        let (instructions, license) = (function.instructions.as_slice(), self.object.license.as_c_str());
        load(&Program { name, instructions, license, target, hook: Hook::Iterator })
    }

    /// Loads a program and has it run at a tracepoint, until what is given back is closed.
    pub(crate) fn traced(&mut self, name: &str, at: &str) -> Result<OwnedFd, Unavailable> {
        let types = match self.types.take() {
            Some(types) => types,
            None => self.load_types()?,
        };
        let function = self.function(name)?;
        let (instructions, license) = (function.instructions.as_slice(), self.object.license.as_c_str());
        let functions = function.func_info.func_info_bytes();
        let hook = Hook::Tracepoint { types: &types, functions: &functions };
        let target = tracepoint(at).map_err(Unavailable::other)?;
        let program = load(&Program { name, instructions, license, target, hook })?;
        self.types = Some(types);
        sys::attach(&program).map_err(|error| Unavailable::answered(&error))
    }

    /// Every kernel that has the iterator knows all that the compiler has put into them.
    fn load_types(&mut self) -> Result<OwnedFd, Unavailable> {
        let all = BtfFeatures::new(true, true, true, true, true, true, true, true);
        let types = self.object.fixup_and_sanitize_btf(&all).map_err(|error| Unavailable::unfit(&error))?;
        let types = types.ok_or_else(|| Unavailable::other("the object has no types"))?.to_bytes();
        sys::load_types(&types).map_err(|error| Unavailable::answered(&error))
    }

    fn function(&self, name: &str) -> Result<&aya_obj::Function, Unavailable> {
        let program = self.object.programs.get(name);
        let function = program.and_then(|program| self.object.functions.get(&program.function_key()));
        function.ok_or_else(|| Unavailable::other(format!("no program {name}")))
    }

    /// Takes a map.
    pub(crate) fn map(&mut self, name: &str) -> Result<Map, Unavailable> {
        self.maps.remove(name).ok_or_else(|| Unavailable::other(format!("no map {name}")))
    }
}

/// Whether the running kernel has a tracepoint of that name.
pub(crate) fn has_tracepoint(name: &str) -> bool {
    tracepoint(name).is_ok()
}

fn kernel_types() -> Result<&'static KernelTypes, Unavailable> {
    if let Some(known) = TYPES.get() {
        return Ok(known);
    }
    let types =
        KernelTypes::read(&[&FILES.0, &MACHINE.0, &ENDS.0, &LEDGER.0], ITERATORS).map_err(|error| {
            match error.kind() {
                io::ErrorKind::NotFound => Unavailable::NoBtf,
                _ => Unavailable::other(error),
            }
        })?;
    Ok(TYPES.get_or_init(|| types))
}

/// Has the kernel take a program, and if it refuses, asks again to hear why.
fn load(program: &Program<'_>) -> Result<OwnedFd, Unavailable> {
    let error = match load_uninterrupted(program, &mut []) {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => error,
        done => return done.map_err(|error| Unavailable::answered(&error)),
    };
    let mut log = vec![0; LOG_BYTES];
    load_uninterrupted(program, &mut log).map_err(|_| {
        let log = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
        let said = log.lines().take_while(|line| !line.starts_with(STATISTICS)).filter(|line| !line.is_empty()).last();
        Unavailable::Other(format!("{error}: {}", said.unwrap_or("the verifier said nothing")))
    })
}

/// A signal to us ends what the verifier does.
fn load_uninterrupted(program: &Program<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut result = program.load(log);
    for _ in 1..ATTEMPTS_MAX {
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => result = program.load(log),
            done => return done,
        }
    }
    result
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

/// The rate of the kernel's `jiffies` (`CONFIG_HZ`): the coarse clocks advance once a tick.
pub(crate) fn ticks_per_second() -> Result<f64, Unavailable> {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    let rate = (1e9 / tick.tv_nsec as f64).round();
    let plausible = tick.tv_sec == 0 && (24.0..=10_000.0).contains(&rate);
    plausible.then_some(rate).ok_or_else(|| Unavailable::other(format!("a clock that ticks each {tick:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya_obj::generated::bpf_insn;

    #[test]
    fn what_the_verifier_objects_to_is_told() {
        let target = match check_capabilities() {
            Ok(()) => kernel_types().expect("reads").functions[0],
            Err(why) => return eprintln!("SKIPPED: {why}"),
        };
        // Its answer is never set.
        let exit = bpf_insn { code: 0x95, _bitfield_align_1: [], _bitfield_1: Default::default(), off: 0, imm: 0 };
        let why = load(&Program { name: "idle", instructions: &[exit], license: c"GPL", target, hook: Hook::Iterator })
            .expect_err("refused");
        assert!(matches!(&why, Unavailable::Other(words) if words.ends_with("R0 !read_ok")), "{why}");
        let why = load(&Program { name: "empty", instructions: &[], license: c"GPL", target, hook: Hook::Iterator })
            .expect_err("refused");
        assert!(matches!(&why, Unavailable::Other(words) if words.ends_with("the verifier said nothing")), "{why}");
    }

    #[test]
    fn a_map_takes_only_what_is_as_large_as_its_own() {
        if let Err(why) = check_capabilities() {
            return eprintln!("SKIPPED: {why}");
        }
        let hash = aya_obj::Map::new_from_params(1, 8, 1, 2, 0);
        let map = Map::create("a_name_longer_than_the_kernel_keeps", &hash).expect("makes");
        map.update(&1_u64, &1_u8).expect("puts in");
        let refused = |result: io::Result<()>| result.expect_err("refused").kind();
        assert_eq!(refused(map.update(&1_u32, &1_u8)), io::ErrorKind::InvalidInput);
        assert_eq!(refused(map.update(&1_u64, &1_u64)), io::ErrorKind::InvalidInput);
        assert_eq!(refused(map.delete(&1_u32)), io::ErrorKind::InvalidInput);
        map.delete(&1_u64).expect("takes out");
        assert_eq!(refused(map.delete(&1_u64)), io::ErrorKind::NotFound);
    }
}
