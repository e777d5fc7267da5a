//! What we ask of bpf(2): maps, programs and what they are attached to, iterations, each over the files or threads that it shall walk.
//!
//! Formats: `union bpf_attr` and `union bpf_iter_link_info` in `include/uapi/linux/bpf.h`. The kernel takes as 0 what a
//! structure of ours ends before.

#![expect(unsafe_code, reason = "neither std nor rustix has bpf(2)")]

use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_insn, bpf_prog_type};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// `BPF_LOG_STATS`: what the verifier objects to and its figures, without its way there, which would fill any log: before
/// Linux 6.4 the end of a full one is lost.
const LOG_STATS: u32 = 4;

/// `PERF_FLAG_FD_CLOEXEC`.
const PERF_CLOSE_ON_EXEC: u64 = 8;

/// `struct bpf_func_info`.
const FUNCTION_INFO_BYTES: usize = 8;

/// A program, relocated.
pub(crate) struct Program<'a> {
    /// What it is called in the kernel's lists; what is beyond 15 bytes is left out.
    pub name: &'a str,
    /// What it does.
    pub instructions: &'a [bpf_insn],
    /// Which helpers it may call.
    pub license: &'a CStr,
    /// The number of what it is bound to in the kernel's BTF: the function that stands for what is iterated over, or the type
    /// of a tracepoint.
    pub target: u32,
    /// When it runs.
    pub hook: Hook<'a>,
}

/// When a program runs.
#[derive(Clone, Copy)]
pub(crate) enum Hook<'a> {
    /// For each file of an iteration.
    Iterator,
    /// Whenever the kernel passes a tracepoint. Callbacks need the program's own types and which of them its functions have.
    Tracepoint { types: &'a OwnedFd, functions: &'a [u8] },
    /// Whenever a process passes an instruction.
    Instruction,
}

/// A map in the kernel.
#[derive(Debug)]
pub(crate) struct Map {
    fd: OwnedFd,
    key_bytes: usize,
    value_bytes: usize,
    entries_max: u32,
}

/// Which files an iteration walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those in the table of a process' first thread: what `/proc/PID/fd` lists. By its number in our pid namespace.
    Process(u32),
    /// Those of a process, all its threads. Kernels before 6.1 refuse it with `E2BIG`; [`Scope::Process`] they would take
    /// for [`Scope::Machine`].
    Threads(u32),
    /// Those of every process of our pid namespace.
    Machine,
}

/// `bpf_attr` of `BPF_PROG_LOAD`.
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
    types: u32,
    function_info_bytes: u32,
    function_info: u64,
    function_info_count: u32,
    line_info_bytes: u32,
    line_info: u64,
    line_info_count: u32,
    attach_type_id: u32,
}

/// `bpf_attr` of `BPF_BTF_LOAD`.
#[repr(C)]
struct TypesLoad {
    types: u64,
    log: u64,
    types_bytes: u32,
    log_bytes: u32,
}

/// `bpf_attr.raw_tracepoint`.
#[repr(C)]
struct TracepointOpen {
    name: u64,
    program: u32,
    unused: u32,
}

/// `bpf_attr` of `BPF_MAP_CREATE`.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
    flags: u32,
    inner_map: u32,
    node: u32,
    name: [u8; 16],
}

/// `bpf_attr` of `BPF_MAP_UPDATE_ELEM` and `BPF_MAP_DELETE_ELEM`.
#[repr(C)]
struct MapElement {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `bpf_iter_link_info.task`.
#[repr(C)]
struct TaskInfo {
    tid: u32,
    pid: u32,
    pid_fd: u32,
}

/// `struct perf_event_attr` as far as an instruction needs it (`PERF_ATTR_SIZE_VER1`).
#[derive(Default)]
#[repr(C)]
struct PerfEvent {
    kind: u32,
    bytes: u32,
    config: u64,
    sampling: [u64; 3],
    flags: u64,
    wakeup: [u32; 2],
    path: u64,
    offset: u64,
}

/// `bpf_attr.link_create` for an iterator or a performance event.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    info: u64,
    info_bytes: u32,
    unused: u32,
}

/// `bpf_attr.iter_create`.
#[repr(C)]
struct IterCreate {
    link: u32,
    flags: u32,
}

impl Program<'_> {
    /// Has the kernel verify the program and take it. What the verifier objects to goes to `log`, with a NUL at its end; an
    /// empty one is the fastest.
    pub(crate) fn load(&self, log: &mut [u8]) -> io::Result<OwnedFd> {
        let (attach_type, types, functions) = match self.hook {
            Hook::Iterator => (bpf_attach_type::BPF_TRACE_ITER as u32, 0, &[][..]),
            Hook::Tracepoint { types, functions } => {
                (bpf_attach_type::BPF_TRACE_RAW_TP as u32, number(types), functions)
            }
            Hook::Instruction => (0, 0, &[][..]),
        };
        let kind = match self.hook {
            Hook::Instruction => bpf_prog_type::BPF_PROG_TYPE_KPROBE,
            _ => bpf_prog_type::BPF_PROG_TYPE_TRACING,
        };
        let load = ProgramLoad {
            kind: kind as u32,
            instruction_count: self.instructions.len() as u32,
            instructions: self.instructions.as_ptr() as u64,
            license: self.license.as_ptr() as u64,
            log_level: if log.is_empty() { 0 } else { LOG_STATS },
            log_bytes: log.len() as u32,
            log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
            kernel_version: 0,
            flags: 0,
            name: short(self.name),
            interface: 0,
            attach_type,
            types,
            function_info_bytes: FUNCTION_INFO_BYTES as u32,
            function_info: functions.as_ptr() as u64,
            function_info_count: (functions.len() / FUNCTION_INFO_BYTES) as u32,
            line_info_bytes: 0,
            line_info: 0,
            line_info_count: 0,
            attach_type_id: self.target,
        };
        // SAFETY: `ProgramLoad` is laid out as the kernel's. It reads as many instructions and functions as there are and the
        // license to its NUL, and writes to no more of `log`, which is ours alone, than its length.
        unsafe { open(bpf_cmd::BPF_PROG_LOAD, &load) }
    }
}

impl Map {
    /// Makes a map as an object defines it.
    pub(crate) fn create(name: &str, definition: &aya_obj::Map) -> io::Result<Self> {
        let create = MapCreate {
            kind: definition.map_type(),
            key_bytes: definition.key_size(),
            value_bytes: definition.value_size(),
            entries_max: definition.max_entries(),
            flags: definition.map_flags(),
            inner_map: 0,
            node: 0,
            name: short(name),
        };
        // SAFETY: `MapCreate` is laid out as the kernel's, which only reads it.
        let fd = unsafe { open(bpf_cmd::BPF_MAP_CREATE, &create)? };
        Ok(Map {
            fd,
            key_bytes: create.key_bytes as usize,
            value_bytes: create.value_bytes as usize,
            entries_max: create.entries_max,
        })
    }

    /// Puts a value in, in the place of one that was there. Fails with `InvalidInput` if either is not as large as the
    /// map's are.
    pub(crate) fn update<Key: Copy, Value: Copy>(&self, key: &Key, value: &Value) -> io::Result<()> {
        if size_of::<Value>() != self.value_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.element(bpf_cmd::BPF_MAP_UPDATE_ELEM, key, (&raw const *value) as u64)
    }

    /// Takes a value out of a map that is no array. Fails with `NotFound` if there is none, with `InvalidInput` as
    /// [`Map::update`].
    pub(crate) fn delete<Key: Copy>(&self, key: &Key) -> io::Result<()> {
        self.element(bpf_cmd::BPF_MAP_DELETE_ELEM, key, 0)
    }

    /// The value of a key, of `BYTES`. Fails with `NotFound` if there is none, with `InvalidInput` as [`Map::update`].
    pub(crate) fn get<Key: Copy, const BYTES: usize>(&self, key: &Key) -> io::Result<[u8; BYTES]> {
        let mut value = [0; BYTES];
        if BYTES != self.value_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.element(bpf_cmd::BPF_MAP_LOOKUP_ELEM, key, value.as_mut_ptr() as u64)?;
        Ok(value)
    }

    /// How many values it has room for; of a ring, bytes.
    pub(crate) fn entries_max(&self) -> u32 {
        self.entries_max
    }

    /// Takes the oldest value out of a queue; `None` where it is empty.
    pub(crate) fn pop<const BYTES: usize>(&self) -> io::Result<Option<[u8; BYTES]>> {
        let mut value = [0_u8; BYTES];
        if BYTES != self.value_bytes || self.key_bytes != 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let address = value.as_mut_ptr() as u64;
        let element = MapElement { map: number(self), unused: 0, key: 0, value: address, flags: 0 };
        // SAFETY: `MapElement` is laid out as the kernel's, which writes a value of this map: `BYTES`, as has been compared.
        match unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, &element) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The key after this one, in no order; the first where it is `None` or was taken out. `None` after the last.
    pub(crate) fn key_after<Key: Copy + Default>(&self, key: Option<Key>) -> io::Result<Option<Key>> {
        let mut next = Key::default();
        if self.key_bytes != size_of::<Key>() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let from = key.as_ref().map_or(0, |key| (&raw const *key) as u64);
        let address = (&raw mut next) as u64;
        let element = MapElement { map: number(self), unused: 0, key: from, value: address, flags: 0 };
        // SAFETY: `MapElement` is laid out as the kernel's, which reads a key, where there is one, and writes one: their size
        // has been compared.
        match unsafe { bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &element) } {
            Ok(_) => Ok(Some(next)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `value` is the address of a value of this map, or 0 where the command has none.
    fn element<Key>(&self, command: bpf_cmd, key: &Key, value: u64) -> io::Result<()> {
        if size_of::<Key>() != self.key_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let element = MapElement { map: number(self), unused: 0, key: (&raw const *key) as u64, value, flags: 0 };
        // SAFETY: `MapElement` is laid out as the kernel's, which reads from it, and of the key and the value reads or writes what a
        // map has of them: their sizes have been compared, and both live until the call returns.
        unsafe { bpf(command, &element) }.map(drop)
    }
}

/// Pages that the kernel shares with us.
#[derive(Debug)]
pub(crate) struct SharedPages {
    start: *mut u8,
    length: usize,
}

// SAFETY: the pages are the process' own; every access is through `self`, atomic where the kernel writes meanwhile.
unsafe impl Send for SharedPages {}

impl SharedPages {
    /// Maps `length` bytes of a map from `offset` on, both whole pages.
    pub(crate) fn map(map: &Map, offset: usize, length: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let (fd, offset) = (map.as_fd().as_raw_fd(), offset as libc::off_t);
        // SAFETY: a new mapping, where the kernel finds room.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(SharedPages { start: start.cast(), length })
    }

    /// The position that the first page begins with.
    pub(crate) fn position(&self) -> u64 {
        // SAFETY: a page is aligned and longer than a word, and lives as long as we do.
        unsafe { AtomicU64::from_ptr(self.start.cast()) }.load(Ordering::Acquire)
    }

    /// Tells the kernel how far we have read. The pages must be writable.
    pub(crate) fn set_position(&mut self, position: u64) {
        // SAFETY: as above; only the first page of a ring is asked for, which was mapped to be written.
        unsafe { AtomicU64::from_ptr(self.start.cast()) }.store(position, Ordering::Release);
    }

    /// The four bytes at a multiple of eight; 0 outside.
    pub(crate) fn header(&self, at: usize) -> u32 {
        if !at.is_multiple_of(8) || at + 4 > self.length {
            return 0;
        }
        // SAFETY: it lies within, and is aligned.
        unsafe { AtomicU32::from_ptr(self.start.add(at).cast()) }.load(Ordering::Acquire)
    }

    /// Copies `length` bytes, of which the kernel writes none any more.
    pub(crate) fn copy(&self, at: usize, length: usize, to: &mut Vec<u8>) {
        to.clear();
        if at.checked_add(length).is_some_and(|end| end <= self.length) {
            // SAFETY: it lies within; a record that is complete is not written to until we say that it was read.
            to.extend_from_slice(unsafe { std::slice::from_raw_parts(self.start.add(at), length) });
        }
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        // SAFETY: ours, mapped once, and nobody else has its address.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Has the kernel take an object's own types.
pub(crate) fn load_types(types: &[u8]) -> io::Result<OwnedFd> {
    let load = TypesLoad { types: types.as_ptr() as u64, log: 0, types_bytes: types.len() as u32, log_bytes: 0 };
    // SAFETY: `TypesLoad` is laid out as the kernel's, which reads no more of `types` than its length.
    unsafe { open(bpf_cmd::BPF_BTF_LOAD, &load) }
}

/// Has a loaded program run at its tracepoint, until what is given back is closed.
pub(crate) fn attach(program: impl AsFd) -> io::Result<OwnedFd> {
    // Which tracepoint it is the program says.
    let open_it = TracepointOpen { name: 0, program: number(&program), unused: 0 };
    // SAFETY: `TracepointOpen` is laid out as the kernel's, which only reads it.
    unsafe { open(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &open_it) }
}

/// Has a loaded program run whenever a process passes an instruction, until what is given back is closed. `offset` is where it
/// stands in the file at `path`, in bytes; `kind` is the number of `/sys/bus/event_source/devices/uprobe/type`. Needs Linux 5.15.
pub(crate) fn attach_to_instruction(
    program: impl AsFd,
    kind: u32,
    path: &CStr,
    offset: u64,
    pid: u32,
) -> io::Result<OwnedFd> {
    let event = PerfEvent {
        kind,
        bytes: size_of::<PerfEvent>() as u32,
        path: path.as_ptr() as u64,
        offset,
        ..PerfEvent::default()
    };
    let (any_processor, no_group) = (-1, -1);
    // SAFETY: `PerfEvent` is laid out as the kernel's and says its own length; the kernel reads from it and, up to its NUL, from `path`.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const event, pid, any_processor, no_group, PERF_CLOSE_ON_EXEC)
    };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    let event = unsafe { OwnedFd::from_raw_fd(fd) };
    let create = LinkCreate {
        program: number(&program),
        target: number(&event),
        attach_type: bpf_attach_type::BPF_PERF_EVENT as u32,
        flags: 0,
        info: 0,
        info_bytes: 0,
        unused: 0,
    };
    // SAFETY: `LinkCreate` is laid out as the kernel's, which only reads it. The link holds the event.
    unsafe { open(bpf_cmd::BPF_LINK_CREATE, &create) }
}

/// Binds a loaded program to the files it shall walk.
pub(crate) fn link(program: impl AsFd, scope: Scope) -> io::Result<OwnedFd> {
    let task = match scope {
        Scope::Process(pid) => TaskInfo { tid: pid, pid: 0, pid_fd: 0 },
        Scope::Threads(pid) => TaskInfo { tid: 0, pid, pid_fd: 0 },
        Scope::Machine => TaskInfo { tid: 0, pid: 0, pid_fd: 0 },
    };
    let create = LinkCreate {
        program: number(&program),
        target: 0,
        attach_type: bpf_attach_type::BPF_TRACE_ITER as u32,
        flags: 0,
        info: if scope == Scope::Machine { 0 } else { (&raw const task) as u64 },
        info_bytes: if scope == Scope::Machine { 0 } else { size_of::<TaskInfo>() as u32 },
        unused: 0,
    };
    // SAFETY: `LinkCreate` is laid out as the kernel's, and the kernel reads from it and from `task`, which live until the
    // call returns.
    unsafe { open(bpf_cmd::BPF_LINK_CREATE, &create) }
}

/// A new iteration of a link, to be read to its end.
pub(crate) fn iterate(link: impl AsFd) -> io::Result<File> {
    let create = IterCreate { link: number(&link), flags: 0 };
    // SAFETY: `IterCreate` is laid out as the kernel's, which only reads it.
    unsafe { open(bpf_cmd::BPF_ITER_CREATE, &create) }.map(File::from)
}

fn number(of: &impl AsFd) -> u32 {
    of.as_fd().as_raw_fd().cast_unsigned()
}

/// As much of a name as the kernel keeps, with a NUL at its end.
fn short(name: &str) -> [u8; 16] {
    let mut kept = [0; 16];
    kept.iter_mut().zip(name.bytes().take(15)).for_each(|(to, from)| *to = from);
    kept
}

/// bpf(2) for a command that returns a new descriptor.
///
/// # Safety
/// As of [`bpf`], and `command` is such a one.
unsafe fn open<T>(command: bpf_cmd, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: as our caller promises.
    let fd = unsafe { bpf(command, attributes)? };
    // SAFETY: the kernel has just opened it for us, close-on-exec, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2).
///
/// # Safety
/// `attributes` is what the kernel expects of `command`, and the addresses in it are valid for what the kernel does there.
unsafe fn bpf<T>(command: bpf_cmd, attributes: &T) -> io::Result<i32> {
    // SAFETY: as our caller promises.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw const *attributes, size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
