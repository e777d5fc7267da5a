//! Whether a ledger can be kept here, and what it would see of a process: tried, then taken down again. The process is only read.

use super::hooks::{Hooks, SendHook};
use super::process::{Mapping, Process};
use super::runtime;
use super::symbols::{package, told};
use super::tls;
use super::unwind::Natives;
use crate::bpf::{Unavailable, has_tracepoint};
use crate::model::{Capability, Diagnosis, Lack, Probe, Setting, Source};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The kernel that has all that the programs use.
const KERNEL: (u32, u32) = (5, 15);
/// The first that has `sock_send_length`.
const KERNEL_WITH_SEND_HOOK: (u32, u32) = (6, 3);

/// As many libraries of the user's own as are named for their lack of lines.
const LIBRARIES_MAX: usize = 3;

/// Runtimes whose own frames are not read, by the file that is mapped where they run: the whole name, or what it begins with up to a
/// digit, a dot or a hyphen. Whether a later version is to read them.
const NATIVE_ONLY: [(&str, &str, bool); 8] = [
    ("libjvm", "Java", true),
    ("node", "Node", true),
    ("nodejs", "Node", true),
    ("libnode", "Node", true),
    ("ruby", "Ruby", false),
    ("libruby", "Ruby", false),
    ("php", "PHP", false),
    ("libcoreclr", ".NET", false),
];

/// Tries it, for the process that a diagnosis is of, where there is one. Hooks are in place for as long as this takes.
pub fn probe(proc: &Path, diagnosis: &Diagnosis) -> Vec<Probe> {
    let setting = &diagnosis.setting;
    let hooks = Hooks::attach(SendHook::Auto).and_then(|mut hooks| hooks.attach_calls().map(|()| hooks));
    let pid = diagnosis.target.as_ref().map(|target| target.pid);
    let process = pid.map(|pid| Process::open(proc, pid));
    let closed = pid.filter(|_| process.as_ref().is_some_and(Result::is_err)).map(|pid| to_open(setting, proc, pid));
    let prober = Prober { proc, setting, hooks, process, closed: closed.unwrap_or_default() };
    let target = prober.target();
    [prober.stacks(), prober.payloads(), prober.encrypted(target.as_ref()), prober.runtime_frames(target.as_ref())]
        .into_iter()
        .chain(target.as_ref().map(|target| prober.lines(target)))
        .collect()
}

/// What opens the memory of a process to us: its file's owner, then the check of ptrace.
fn to_open(setting: &Setting, proc: &Path, pid: u32) -> Vec<Lack> {
    let folder = proc.join(pid.to_string());
    let is_ours = fs::metadata(folder.join("mem")).is_ok_and(|facts| facts.uid() == setting.uid);
    let needed = [Capability::DacReadSearch, Capability::SysPtrace];
    let mut lacks = setting.lacking(&needed[usize::from(is_ours)..]);
    let scope = fs::read_to_string(proc.join("sys/kernel/yama/ptrace_scope")).unwrap_or_default();
    if scope.trim() == "3" {
        lacks.push(Lack::PtraceScope);
    } else if lacks.is_empty() && setting.user_namespace {
        lacks.push(Lack::UserNamespace);
    }
    lacks
}

/// What is asked of the system once, for several probes.
struct Prober<'a> {
    proc: &'a Path,
    setting: &'a Setting,
    hooks: Result<Hooks, Unavailable>,
    process: Option<io::Result<Process>>,
    /// What would open the process to us, where it is closed.
    closed: Vec<Lack>,
}

/// A process that is open to us.
struct Target<'a> {
    process: &'a Process,
    /// Its own program.
    program: Option<&'a Mapping>,
    runtime: Option<Box<dyn runtime::Runtime>>,
    /// One that is known by name alone, and whether a later version is to read its frames.
    other: Option<(&'static str, bool)>,
}

impl Prober<'_> {
    fn target(&self) -> Option<Target<'_>> {
        let process = self.process.as_ref()?.as_ref().ok()?;
        let path = fs::read_link(self.proc.join(process.pid().to_string()).join("exe")).ok();
        let path = path.as_deref().and_then(Path::to_str).map(|path| path.trim_end_matches(" (deleted)"));
        let code = || process.mappings().iter().filter(|it| it.is_executable && it.inode != 0);
        let program = code().find(|it| Some(it.path.as_str()) == path);
        let runtime = runtime::find(process);
        let other = code().find_map(|it| native_only(it, program)).filter(|_| runtime.is_none());
        Some(Target { process, program, runtime, other })
    }

    /// All that keeps a ledger from being kept of this process.
    fn lacks(&self) -> Vec<Lack> {
        let mut lacks = self.setting.lacks_for_bpf(KERNEL);
        lacks.extend(self.closed.iter().filter(|lack| !lacks.contains(lack)).cloned().collect::<Vec<_>>());
        lacks
    }

    /// The same of uprobes, which take `CAP_SYS_ADMIN` (`perf_uprobe_event_init` in `kernel/events/core.c`): that is enough for BPF.
    fn lacks_for_uprobes(&self) -> Vec<Lack> {
        let has_both = [Lack::Capability(Capability::Bpf), Lack::Capability(Capability::Perfmon)];
        let mut lacks = self.lacks();
        lacks.retain(|lack| !has_both.contains(lack));
        lacks.extend(self.setting.lacking(&[Capability::SysAdmin]));
        lacks
    }

    /// Why there is no ledger of it; `None` where there can be one.
    fn why_not(&self) -> Option<String> {
        match (&self.hooks, &self.process) {
            (Err(why), _) => Some(why.to_string()),
            (Ok(_), Some(Err(error))) => Some(format!("its memory is closed to us ({error})")),
            (Ok(_), _) => None,
        }
    }

    fn stacks(&self) -> Probe {
        match self.why_not() {
            Some(why) => Probe::missing(Source::Stacks, why, self.lacks()),
            None => Probe::found(
                Source::Stacks,
                "of TCP's by tracepoints; of accepts, files and the rest by hooks on system calls, which cost every \
                 process here some 25 ns a call while we watch; `--openers connections` leaves them out",
            ),
        }
    }

    fn payloads(&self) -> Probe {
        let source = Source::Payloads;
        match (self.why_not(), has_tracepoint("sock_send_length")) {
            (Some(why), _) => Probe::missing(source, why, self.lacks()),
            (None, true) => Probe::found(source, "by sock_send_length: no system call is hooked for it"),
            (None, false) => {
                let why = "by the system calls that send, for this kernel has no sock_send_length";
                Probe::partly(source, why, vec![Lack::Kernel(KERNEL_WITH_SEND_HOOK.0, KERNEL_WITH_SEND_HOOK.1)])
            }
        }
    }

    fn encrypted(&self, target: Option<&Target<'_>>) -> Probe {
        let source = Source::Encrypted;
        let hooks = match (&self.hooks, self.why_not()) {
            (Ok(hooks), None) => hooks,
            (_, why) => return Probe::missing(source, why.unwrap_or_default(), self.lacks_for_uprobes()),
        };
        if let Err(refused) = tls::try_on_ourselves(&hooks.object) {
            let lacks = match refused.is_permission {
                true => self.setting.lacking(&[Capability::SysAdmin]),
                false if !Path::new(tls::KIND).exists() => vec![Lack::Uprobes],
                false => Vec::new(),
            };
            return Probe::missing(source, refused.why, lacks);
        }
        let trap = "a trap in the library's code while we watch, the one thing of a target that is changed";
        let Some(target) = target else {
            return Probe::found(source, format!("by uprobes, where OpenSSL and its like write: {trap}"));
        };
        let libraries = tls::seen(target.process, &mut Natives::default());
        let libraries: Vec<&str> = libraries.iter().map(|path| file_name(path)).collect();
        let by = match libraries.join(", ") {
            none if none.is_empty() => "by uprobes; nothing is mapped now that they could look into".to_owned(),
            libraries => format!("by uprobes in {libraries}: {trap}"),
        };
        match target.other {
            Some(("Java", _)) => Probe::partly(source, format!("{by}; Java's own is not seen"), Vec::new()),
            _ if libraries.is_empty() => Probe::found(source, format!("{by}, as OpenSSL; rustls' is not seen")),
            _ => Probe::found(source, by),
        }
    }

    fn runtime_frames(&self, target: Option<&Target<'_>>) -> Probe {
        let source = Source::RuntimeFrames;
        match (target, &self.process) {
            (None, Some(Err(error))) => {
                Probe::missing(source, format!("its memory is closed to us ({error})"), self.closed.clone())
            }
            (None, _) => Probe::found(source, "of Python 3.8 to 3.13 and of Go; `doctor PID` tells of one"),
            (Some(Target { runtime: Some(runtime), .. }), _) => match runtime.why_native() {
                None => Probe::found(source, format!("{}: functions, files and lines", runtime.name())),
                Some(why) => Probe::partly(source, format!("{}: {why}", runtime.name()), Vec::new()),
            },
            (Some(Target { other: Some((name, is_later)), .. }), _) => {
                let lacks = if *is_later { vec![Lack::Version] } else { Vec::new() };
                let place = if *is_later { " in this version" } else { "" };
                let why = format!("{name}: native frames only{place}");
                Probe::partly(source, why, lacks)
            }
            (Some(_), _) => Probe::found(source, "it has none that is known: its frames are native"),
        }
    }

    /// What its compiled code will be called.
    fn lines(&self, target: &Target<'_>) -> Probe {
        let source = Source::Lines;
        let Some(program) = target.program else {
            return Probe::missing(source, "its program is not among its mappings", Vec::new());
        };
        let libraries = Libraries::of(target.process, program);
        let told = match told::of(target.process, program) {
            Ok(told) => told,
            Err(why) => return Probe::missing(source, format!("{}: {why}", program.path), Vec::new()),
        };
        let name = file_name(&program.path);
        let of_program = match (told.has_lines, told.has_functions) {
            _ if target.runtime.is_some() => "its runtime tells those of its own code".to_owned(),
            _ if target.other.is_some() => format!("{name} is an interpreter: of your own code it has none"),
            (true, _) if told.is_apart => format!("{name}: functions and lines, by a separate debug file"),
            (true, _) => format!("{name}: functions and lines"),
            (false, true) => format!("{name}: functions without lines, for it has no debug information"),
            (false, false) => format!("{name}: neither functions nor lines, for it is stripped"),
        };
        let unwound = if told.has_unwind_tables || target.runtime.is_some() || target.other.is_some() {
            ""
        } else {
            "; no unwind tables: its callers by frame pointers, which -fno-omit-frame-pointer keeps"
        };
        let why = format!("{of_program}{unwound}; {}", libraries.words());
        // An interpreter's own lines are nobody's own.
        if target.runtime.is_some() {
            return Probe::found(source, why);
        }
        if target.other.is_some() {
            return Probe::missing(source, why, Vec::new());
        }
        let mut without: Vec<&str> = libraries.without_lines.iter().map(String::as_str).collect();
        let paths: Vec<&str> = without.iter().copied().chain([program.path.as_str()]).collect();
        let packages = package::of(target.process, &paths);
        // Lines of the system's libraries are nobody's own; where the system keeps no records, neither is known to be.
        without.retain(|path| packages.as_ref().is_some_and(|packages| !packages.contains_key(path)));
        without.truncate(LIBRARIES_MAX);
        without.splice(0..0, (!told.has_lines).then_some(program.path.as_str()));
        let package = |path: &str| packages.as_ref()?.get(path).cloned();
        let lacks: Vec<Lack> = without
            .into_iter()
            .map(|path| Lack::DebugInformation { path: path.to_owned(), package: package(path) })
            .collect();
        match (told.has_lines, told.has_functions, lacks.is_empty()) {
            (true, _, true) => Probe::found(source, why),
            (false, false, _) => Probe::missing(source, why, lacks),
            _ => Probe::partly(source, why, lacks),
        }
    }
}

/// What the libraries of a process tell.
#[derive(Default)]
struct Libraries {
    count: usize,
    with_unwind_tables: usize,
    with_lines: usize,
    /// The paths of those that have none.
    without_lines: Vec<String>,
}

impl Libraries {
    fn of(process: &Process, program: &Mapping) -> Self {
        let mut libraries = Libraries::default();
        let code = process.mappings().iter().filter(|it| it.is_executable && it.inode != 0);
        let mut seen = vec![&program.path];
        for mapping in code {
            if seen.contains(&&mapping.path) {
                continue;
            }
            seen.push(&mapping.path);
            let Ok(told) = told::of(process, mapping) else { continue };
            libraries.count += 1;
            libraries.with_unwind_tables += usize::from(told.has_unwind_tables);
            libraries.with_lines += usize::from(told.has_lines);
            libraries.without_lines.extend((!told.has_lines).then(|| mapping.path.clone()));
        }
        libraries
    }

    fn words(&self) -> String {
        let Libraries { count, with_unwind_tables, with_lines, .. } = self;
        match count {
            0 => "no libraries".to_owned(),
            _ => format!("of {count} libraries {with_unwind_tables} have unwind tables and {with_lines} lines"),
        }
    }
}

/// Whether a mapped file is of a runtime whose own frames are not read. An interpreter is the program itself, or a library.
fn native_only(mapping: &Mapping, program: Option<&Mapping>) -> Option<(&'static str, bool)> {
    let file = file_name(&mapping.path);
    let is_program = program.is_some_and(|program| program.path == mapping.path);
    let is_it = |name: &str| {
        let ends = |rest: &str| rest.chars().next().is_none_or(|next| next.is_ascii_digit() || ".-".contains(next));
        (is_program || name.starts_with("lib")) && file.strip_prefix(name).is_some_and(ends)
    };
    NATIVE_ONLY.iter().find(|(name, ..)| is_it(name)).map(|(_, language, is_later)| (*language, *is_later))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(path: &str) -> Mapping {
        Mapping {
            start: 0,
            end: 4096,
            offset: 0,
            is_executable: true,
            device: "fe:00".to_owned(),
            inode: 1,
            is_deleted: false,
            path: path.to_owned(),
        }
    }

    #[test]
    fn runtimes_are_known_by_their_files() {
        let of = |path: &str, program: &str| native_only(&mapping(path), Some(&mapping(program))).map(|(name, _)| name);
        assert_eq!(of("/usr/lib/jvm/lib/server/libjvm.so", "/usr/bin/java"), Some("Java"));
        assert_eq!(of("/usr/bin/node", "/usr/bin/node"), Some("Node"));
        assert_eq!(of("/usr/bin/php8.2", "/usr/bin/php8.2"), Some("PHP"));
        assert_eq!(of("/usr/lib/libruby-3.1.so.3.1", "/usr/bin/ruby"), Some("Ruby"));
        assert_eq!(of("/usr/bin/node_exporter", "/usr/bin/node_exporter"), None);
        assert_eq!(of("/opt/php", "/opt/app"), None, "a plugin of that name is no interpreter");
    }
}
