//! What is written before it is encrypted (`bpf/tls.h`): finds where the libraries of a process are handed it, and has the kernel look
//! there.
//!
//! Libraries that encrypt and have no function of their own for it, as rustls and Java's, are not seen; what they send is told as
//! encrypted.

#[cfg(test)]
mod tests;

use super::process::{Mapping, Process};
use super::runtime::go;
use super::symbols::elf;
use super::unwind::Natives;
use crate::bpf::{Object, attach_to_instruction};
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Functions that are handed a connection, the bytes and their number: OpenSSL and what has come of it, GnuTLS, Mbed TLS, wolfSSL,
/// s2n. None of them calls another.
const FUNCTIONS: [&str; 6] =
    ["SSL_write", "SSL_write_ex", "gnutls_record_send", "mbedtls_ssl_write", "wolfSSL_write", "s2n_send"];

/// Go's.
const GO_FUNCTION: &str = "crypto/tls.(*Conn).Write";

/// Its number is that of the kernel's kind of event.
pub(super) const KIND: &str = "/sys/bus/event_source/devices/uprobe/type";

/// A mapped file: device and inode.
type FileKey = (String, u64);

/// What has the kernel look into libraries. Dropping it takes all of it away; so does whatever ends this process.
#[derive(Debug, Default)]
pub(super) struct Tls {
    programs: Option<Programs>,
    /// Of each process the files that have been looked into, with what was attached.
    attached: HashMap<u32, HashMap<FileKey, Vec<OwnedFd>>>,
}

#[derive(Debug)]
struct Programs {
    kind: u32,
    of_c: OwnedFd,
    of_go: OwnedFd,
}

/// Which of the programs it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    C,
    Go,
}

impl Tls {
    /// Looks into those files of a process that have been mapped since the last time. Says where it could not.
    pub(super) fn attach(&mut self, process: &Process, natives: &mut Natives, object: &Object) -> Vec<String> {
        let mapped: Vec<(FileKey, &Mapping)> = files(process);
        let keys: HashSet<&FileKey> = mapped.iter().map(|(key, _)| key).collect();
        let of_process = self.attached.entry(process.pid()).or_default();
        // After an exec none of them is left.
        of_process.retain(|key, _| keys.contains(key));
        let new: Vec<_> = mapped.into_iter().filter(|(key, _)| !of_process.contains_key(key)).collect();
        let go = if new.is_empty() { None } else { go::entry_of(process, GO_FUNCTION) };
        let mut notes = Vec::new();
        for (key, mapping) in new {
            let mut links = Vec::new();
            for (offset, language) in places(process, natives, mapping, go) {
                match self.look_at(process, mapping, offset, language, object) {
                    Ok(link) => links.push(link),
                    Err(why) => notes.push(format!("what {} encrypts can't be seen: {why}", mapping.path)),
                }
            }
            self.attached.entry(process.pid()).or_default().insert(key, links);
        }
        notes.dedup();
        notes
    }

    /// The process has ended.
    pub(super) fn forget(&mut self, pid: u32) {
        self.attached.remove(&pid);
    }

    fn look_at(
        &mut self,
        process: &Process,
        mapping: &Mapping,
        offset: u64,
        language: Language,
        object: &Object,
    ) -> Result<OwnedFd, String> {
        let programs = match &mut self.programs {
            Some(programs) => programs,
            none => none.insert(Programs::load(object)?),
        };
        let program = if language == Language::Go { &programs.of_go } else { &programs.of_c };
        // By a descriptor of ours, so that it is the very file, whatever its path leads to by now.
        let file = process.file(mapping).map_err(|error| error.to_string())?;
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|error| error.to_string())?;
        let link = attach_to_instruction(program, programs.kind, &path, offset, process.pid());
        link.map_err(|error| refusal(&error))
    }
}

/// The paths of those files of a process that would be looked into.
pub(super) fn seen(process: &Process, natives: &mut Natives) -> Vec<String> {
    let go = go::entry_of(process, GO_FUNCTION);
    let has = |mapping: &&Mapping| !places(process, natives, mapping, go).is_empty();
    files(process).into_iter().map(|(_, mapping)| mapping).filter(has).map(|mapping| mapping.path.clone()).collect()
}

/// Whether the kernel lets us look at an instruction: tried on our own first one, which has been run and won't be again.
pub(super) fn try_on_ourselves(object: &Object) -> Result<(), Refused> {
    let other = |error: io::Error| Refused { why: error.to_string(), is_permission: false };
    let program = File::open("/proc/self/exe").map_err(other)?;
    let entry = entry(program).ok_or_else(|| other(io::ErrorKind::InvalidData.into()))?;
    let programs = Programs::load(object).map_err(|why| Refused { why, is_permission: false })?;
    let link = attach_to_instruction(&programs.of_c, programs.kind, c"/proc/self/exe", entry, std::process::id());
    link.map(drop).map_err(|error| Refused {
        is_permission: error.kind() == io::ErrorKind::PermissionDenied,
        why: refusal(&error),
    })
}

/// Why no instruction can be looked at.
#[derive(Debug)]
pub(super) struct Refused {
    /// For a person.
    pub why: String,
    /// A capability is lacking.
    pub is_permission: bool,
}

/// Where in its file a program begins.
fn entry(program: File) -> Option<u64> {
    let source = elf::source(program);
    let elf = elf::parse(&source)?;
    let address = object::Object::entry(&*elf);
    let segments = elf::segments(&elf);
    let segment = segments.iter().find(|it| address.wrapping_sub(it.address) < it.file_bytes)?;
    Some(address - segment.address + segment.offset)
}

/// What the kernel said to looking at an instruction, and what it takes.
fn refusal(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidInput => format!("{error}; it takes Linux 5.15 or later"),
        io::ErrorKind::PermissionDenied => format!("{error}; for uprobes the kernel asks for CAP_SYS_ADMIN"),
        _ => error.to_string(),
    }
}

impl Programs {
    fn load(object: &Object) -> Result<Self, String> {
        let kind = fs::read_to_string(KIND)
            .map_err(|error| format!("{KIND}: {error}; the kernel needs CONFIG_UPROBE_EVENTS"))?;
        let kind = kind.trim().parse().map_err(|error| format!("{KIND}: {error}"))?;
        let program = |name| object.of_instructions(name).map_err(|why| why.to_string());
        Ok(Programs { kind, of_c: program("encrypts")?, of_go: program("encrypts_go")? })
    }
}

/// The files that a process runs code of, each with a mapping of its code.
fn files(process: &Process) -> Vec<(FileKey, &Mapping)> {
    let mut files: Vec<(FileKey, &Mapping)> = Vec::new();
    for mapping in process.mappings().iter().filter(|mapping| mapping.is_executable && mapping.inode != 0) {
        let key = (mapping.device.clone(), mapping.inode);
        if !files.iter().any(|(known, _)| *known == key) {
            files.push((key, mapping));
        }
    }
    files
}

/// Where in a file the functions begin. `go` is where Go's begins in memory, whichever file that is.
fn places(process: &Process, natives: &mut Natives, mapping: &Mapping, go: Option<u64>) -> Vec<(u64, Language)> {
    let mut places = Vec::new();
    let mut names = FUNCTIONS.to_vec();
    while let Some(symbol) = natives.find_symbol(process, mapping, &names) {
        places.extend(symbol.file_offset.map(|offset| (offset, Language::C)));
        names.retain(|name| *name != symbol.name);
    }
    let here = go.filter(|address| (mapping.start..mapping.end).contains(address));
    places.extend(here.map(|address| (address - mapping.start + mapping.offset, Language::Go)));
    // Two names may stand for one function.
    places.sort_by_key(|(offset, _)| *offset);
    places.dedup();
    places
}
