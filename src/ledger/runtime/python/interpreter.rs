//! Finds CPython in a process: which of its files is the interpreter, which version, and where it has its state.

use super::super::super::process::{Mapping, Process};
use super::dynamic::Exports;
use super::object::word;
use super::offsets::{Offsets, PUBLISHED_BYTES, Places};

/// What was found.
#[derive(Debug)]
pub(super) struct Interpreter {
    /// The path of the program or library that it is, as the process has it.
    pub path: String,
    /// The version's second number; `None` where nothing tells.
    pub minor: Option<u32>,
    /// Where `_PyRuntime` stands.
    pub runtime: u64,
    /// Where its fields are; the error says why they are not known.
    pub offsets: Result<Offsets, String>,
    /// What the kernel's side needs besides.
    pub places: Places,
    /// The type of code objects; 0 where it isn't exported.
    pub code_type: u64,
}

impl Interpreter {
    /// The interpreter of a process; `None` where it has none, or it isn't set up yet.
    pub(super) fn find(process: &Process) -> Option<Interpreter> {
        process.mappings().iter().filter(|mapping| mapping.offset == 0 && mapping.path.starts_with('/')).find_map(
            |mapping| {
                // Python is in the program itself or in a library of its name.
                let is_program = process.mappings().first().is_some_and(|first| first.path == mapping.path);
                let exports = (is_program || file_name(&mapping.path).starts_with("libpython"))
                    .then(|| Exports::at(process, mapping.start))??;
                let runtime = exports.address_of("_PyRuntime")?;
                let minor = minor_by_symbol(process, &exports).or_else(|| minor_by_paths(mapping, process.mappings()));
                let offsets = match minor {
                    Some(minor) => Offsets::of(minor, &published(process, runtime)),
                    None => Err("the version of this Python is not known".to_owned()),
                };
                let first = |offsets: &Offsets| runtime + u64::from(offsets.runtime_interpreters);
                if let Ok(offsets) = &offsets {
                    // Nothing runs before there is an interpreter.
                    word(process, first(offsets)).filter(|interpreter| *interpreter != 0)?;
                }
                let address = |name| exports.address_of(name).unwrap_or(0);
                let places = Places {
                    interpreters: offsets.as_ref().map_or(0, first),
                    handle_run: 0,
                    coroutine: address("PyCoro_Type"),
                    generator: address("PyGen_Type"),
                    asend: address("_PyAsyncGenASend_Type"),
                };
                Some(Interpreter {
                    path: mapping.path.clone(),
                    minor,
                    runtime,
                    offsets,
                    places,
                    code_type: address("PyCode_Type"),
                })
            },
        )
    }
}

/// Since 3.11 the version is exported as a number: 0x030b07f0 is 3.11.7.
fn minor_by_symbol(process: &Process, exports: &Exports) -> Option<u32> {
    let version = word(process, exports.address_of("Py_Version")?)?;
    (version >> 24 & 0xff == 3).then_some((version >> 16 & 0xff) as u32)
}

/// Before, by what the interpreter is called, or the modules that it has loaded: `python3.9`, `_ssl.cpython-39-x86_64-linux-gnu.so`.
fn minor_by_paths(interpreter: &Mapping, mappings: &[Mapping]) -> Option<u32> {
    let by_name = minor_after(file_name(&interpreter.path), "python3.");
    by_name.or_else(|| {
        let minor = |mapping: &Mapping| {
            minor_after(file_name(&mapping.path), ".cpython-3").or_else(|| minor_after(&mapping.path, "/python3."))
        };
        mappings.iter().find_map(minor)
    })
}

/// The number that follows a prefix somewhere in a path.
fn minor_after(path: &str, prefix: &str) -> Option<u32> {
    let (_, rest) = path.split_once(prefix)?;
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn published(process: &Process, runtime: u64) -> Vec<u8> {
    let mut bytes = vec![0; PUBLISHED_BYTES];
    if process.read(runtime, &mut bytes).is_err() {
        bytes.clear();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_by_name() {
        let names = ["python3.9", "libpython3.10.so.1.0", "python3", "uwsgi"];
        assert_eq!(names.map(|name| minor_after(name, "python3.")), [Some(9), Some(10), None, None]);
        assert_eq!(minor_after("_ssl.cpython-38-x86_64-linux-gnu.so", ".cpython-3"), Some(8));
        assert_eq!(minor_after("_ssl.cpython-313-x86_64-linux-gnu.so", ".cpython-3"), Some(13));
    }
}
