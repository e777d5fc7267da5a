//! Programs that are compiled here, run, and stand still in a system call: their stacks, taken from outside, against what they are
//! known to be.

use super::super::process::Process;
use super::super::raw::STACK_BYTES_MAX;
use super::{NativeFrame, Natives};
use crate::model::{Frame, Via};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Says aloud that a case can't be run here, and why, and ends it.
macro_rules! skip {
    ($($why:tt)*) => {{
        // Past the harness, which keeps to itself what a case that doesn't fail prints.
        let _ = writeln!(std::io::stderr(), "{} skipped: {}", module_path!(), format!($($why)*));
        return;
    }};
}

/// Reads a byte at the end of a chain of functions; `outer` calls itself once, so that two frames of one function follow each other.
const C: &str = r#"
#include <unistd.h>
#define KEEP __attribute__((noinline, noclone, noipa))
KEEP int ask(char *to) {
    return read(0, to, 1) + 1;
}
static inline __attribute__((always_inline)) int between(char *to) {
    return ask(to) + 2;
}
KEEP int outer(int depth, char *to) {
    if (depth > 0) return outer(depth - 1, to) + 3;
    return between(to) + 4;
}
int main(void) {
    char letter;
    write(1, "!", 1);
    return outer(1, &letter) + 5;
}
"#;

const CPP: &str = r#"
#include <unistd.h>
#include <vector>
#define KEEP __attribute__((noinline, noclone, noipa))
namespace app {
template <typename T> struct Pool {
    std::vector<T> idle;
    KEEP int get(char *to) { return ::read(0, to, 1) + static_cast<int>(idle.size()); }
};
KEEP static int report(Pool<int> &pool, char *to) { return pool.get(to) + 1; }
}
int main() {
    app::Pool<int> pool;
    char letter;
    (void)!write(1, "!", 1);
    return app::report(pool, &letter) + 1;
}
"#;

const RUST: &str = r#"
use std::io::Write;
mod pool {
    use std::io::Read;
    #[inline(always)]
    pub fn checked(from: &mut impl Read) -> usize {
        let mut letter = [0; 1];
        from.read(&mut letter).unwrap()
    }
    #[inline(never)]
    pub fn take<T: Read>(from: &mut T) -> usize {
        checked(from) + 1
    }
}
fn main() {
    std::io::stdout().write_all(b"!").unwrap();
    std::io::stdout().flush().unwrap();
    let mut from: std::fs::File = std::fs::File::open("/dev/stdin").unwrap();
    std::process::exit(pool::take(&mut from) as i32);
}
"#;

/// A program that has said that it runs, and ends with its input, which we hold.
struct Standing {
    child: Child,
    process: Process,
}

impl Drop for Standing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Compiles a source, in words as of a shell; false where there is no such compiler.
fn compile(folder: &Path, source: &str, line: &str) -> bool {
    fs::write(folder.join(if line.starts_with("rustc") { "a.rs" } else { "a.c" }), source).unwrap();
    run(folder, line)
}

/// Runs a command to its end; false where there is no such program.
fn run(folder: &Path, line: &str) -> bool {
    let mut words = line.split(' ');
    let command = Command::new(words.next().unwrap()).args(words).current_dir(folder).stderr(Stdio::piped()).output();
    let Ok(output) = command else { return false };
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

/// Starts a program and waits until it stands still in `read`.
fn start(command: &mut Command) -> Standing {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let process = Process::open(Path::new("/proc"), child.id()).unwrap();
    let standing = Standing { child, process };
    let end = Instant::now() + Duration::from_secs(60);
    // `read` is call 0 of x86-64 and 63 of aarch64; between its greeting and the call it is never long.
    let reads = |standing: &Standing| standing.process.waiting(standing.process.pid()).unwrap().and_then(|at| at.call);
    while !matches!(reads(&standing), Some(0 | 63)) {
        assert!(Instant::now() < end, "it never reads");
        std::thread::yield_now();
    }
    standing
}

/// Its stack, unwound from what the kernel tells of a thread that waits.
fn unwind(standing: &mut Standing, natives: &mut Natives) -> (Vec<NativeFrame>, Option<String>) {
    unwind_within(standing, natives, STACK_BYTES_MAX)
}

fn unwind_within(standing: &mut Standing, natives: &mut Natives, bytes: usize) -> (Vec<NativeFrame>, Option<String>) {
    let registers = standing.process.waiting(standing.process.pid()).unwrap().unwrap().registers;
    let (stack, is_cut) = standing.process.stack(registers.sp, bytes).unwrap();
    natives.unwind(&mut standing.process, registers, &stack, is_cut)
}

/// Each frame as `function file:line`, of the file its name alone; `?` for what is unknown.
fn told(frames: &[NativeFrame]) -> Vec<String> {
    let told = |frame: &Frame| {
        let function = frame.function.as_deref().unwrap_or("?");
        let mark = if frame.via == Via::Inlined { "^" } else { "" };
        let file = frame.file.as_deref().map_or("?", |file| file.rsplit('/').next().unwrap_or(file));
        format!("{mark}{function} {file}:{}", frame.line.map_or_else(|| "?".to_owned(), |line| line.to_string()))
    };
    frames.iter().flat_map(|frame| &frame.frames).map(told).collect()
}

/// True where these lines follow each other in what was told.
fn holds(told: &[String], wanted: &[&str]) -> bool {
    told.windows(wanted.len()).any(|window| window.iter().zip(wanted).all(|(line, wanted)| line == wanted))
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn optimized_c_without_frame_pointers() {
    let folder = scratch();
    if !compile(folder.path(), C, "gcc -O2 -g -fomit-frame-pointer -fno-optimize-sibling-calls -o a a.c") {
        skip!("no gcc");
    }
    let mut standing = start(&mut Command::new(folder.path().join("a")));
    let (frames, cut) = unwind(&mut standing, &mut Natives::default());
    let told = told(&frames);
    assert!(told[0].starts_with("read ") || told[0].starts_with("__GI___libc_read "), "{told:#?}");
    let wanted = ["ask a.c:5", "between a.c:8", "^outer a.c:12", "outer a.c:11", "main a.c:17"];
    assert!(holds(&told, &wanted), "{told:#?}");
    assert_eq!(cut, None, "{told:#?}");
    assert!(frames.windows(2).all(|pair| pair[0].sp < pair[1].sp), "{frames:#x?}");
    let files = frames.iter().flat_map(|frame| &frame.frames).filter_map(|frame| frame.file.as_deref());
    assert!(
        files.clone().any(|file| file.starts_with('/') && file.ends_with("/a.c")),
        "{:?}",
        files.collect::<Vec<_>>()
    );
    assert_eq!(told.last().map(|last| last.starts_with("_start ")), Some(true), "{told:#?}");
}

#[test]
fn frames_that_need_a_frame_pointer_that_nobody_tells() {
    let folder = scratch();
    if !compile(folder.path(), C, "gcc -O0 -g -fno-omit-frame-pointer -o a a.c") {
        skip!("no gcc");
    }
    let mut standing = start(&mut Command::new(folder.path().join("a")));
    let (frames, cut) = unwind(&mut standing, &mut Natives::default());
    let told = told(&frames);
    let wanted = ["ask a.c:5", "between a.c:8", "^outer a.c:12", "outer a.c:11", "main a.c:17"];
    assert!(holds(&told, &wanted), "{told:#?} {cut:?}");
    assert_eq!(cut, None, "{told:#?}");
}

#[test]
fn a_stack_that_is_deeper_than_its_copy_says_so() {
    let folder = scratch();
    if !compile(folder.path(), C, "gcc -O2 -g -fno-optimize-sibling-calls -o a a.c") {
        skip!("no gcc");
    }
    let mut standing = start(&mut Command::new(folder.path().join("a")));
    let (frames, cut) = unwind_within(&mut standing, &mut Natives::default(), 64);
    assert!(told(&frames).iter().any(|line| line == "ask a.c:5"), "{:#?}", told(&frames));
    assert!(cut.as_deref().is_some_and(|why| why.contains("deeper than")), "{cut:?}");
}

#[test]
fn a_module_without_tables_is_named_with_what_mends_it() {
    let folder = scratch();
    let flags =
        "-O2 -fomit-frame-pointer -fno-asynchronous-unwind-tables -fno-unwind-tables -fno-optimize-sibling-calls";
    if !compile(folder.path(), C, &format!("gcc {flags} -o leaks a.c")) {
        skip!("no gcc");
    }
    let mut standing = start(&mut Command::new(folder.path().join("leaks")));
    let (frames, cut) = unwind(&mut standing, &mut Natives::default());
    assert!(told(&frames).iter().any(|line| line.starts_with("ask ")), "{:#?}", told(&frames));
    assert!(cut.as_deref().is_some_and(|why| why.contains("leaks has no unwind tables")), "{cut:?}");
}

#[test]
fn a_deleted_program_is_read_all_the_same() {
    let folder = scratch();
    if !compile(folder.path(), C, "gcc -O2 -g -fno-optimize-sibling-calls -o a a.c") {
        skip!("no gcc");
    }
    let path = folder.path().join("a");
    let mut standing = start(&mut Command::new(&path));
    fs::remove_file(&path).unwrap();
    fs::copy("/bin/true", &path).unwrap();
    standing.process.refresh().unwrap();
    let mapping = standing.process.mappings().iter().find(|mapping| mapping.is_executable).unwrap().clone();
    assert!(mapping.is_deleted, "{mapping:?}");
    if let Err(why) = standing.process.file(&mapping) {
        skip!("a deleted file can't be opened by its mapping: {why}");
    }
    let (frames, cut) = unwind(&mut standing, &mut Natives::default());
    let told = told(&frames);
    assert!(holds(&told, &["ask a.c:5", "between a.c:8", "^outer a.c:12"]), "{told:#?}");
    assert_eq!(cut, None);
}

#[test]
fn rust_with_line_tables_and_inlining() {
    let folder = scratch();
    let flags = "-C opt-level=3 -C debuginfo=line-tables-only --edition 2021";
    if !compile(folder.path(), RUST, &format!("rustc {flags} -o a a.rs")) {
        skip!("no rustc");
    }
    let mut standing = start(&mut Command::new(folder.path().join("a")));
    let (frames, cut) = unwind(&mut standing, &mut Natives::default());
    let told = told(&frames);
    assert_eq!(cut, None, "{told:#?}");
    let at = |line: u32| told.iter().any(|told| told.ends_with(&format!(" a.rs:{line}")));
    assert!(at(8) && at(12) && at(19), "{told:#?}");
    assert!(told.iter().any(|line| line.contains("pool::take") || line.contains("take<")), "{told:#?}");
    assert!(!told.iter().any(|line| line.contains("17h") || line.contains("_ZN")), "{told:#?}");
}

#[test]
fn stripped_and_static_within_a_root_of_its_own_where_the_debug_file_is() {
    let folder = scratch();
    let root = folder.path();
    if !compile(root, CPP, "g++ -x c++ -O2 -g -static -fno-optimize-sibling-calls -Wl,--build-id -o a a.c") {
        skip!("no g++");
    }
    if !run(root, "objcopy --only-keep-debug --compress-debug-sections=zlib a a.debug") {
        skip!("no objcopy");
    }
    run(root, "strip --strip-all a");
    let notes = Command::new("readelf").args(["-n", "a"]).current_dir(root).output().unwrap();
    let notes = String::from_utf8_lossy(&notes.stdout).into_owned();
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap().to_owned();
    let place = root.join("usr/lib/debug/.build-id").join(&id[..2]);
    fs::create_dir_all(&place).unwrap();
    fs::rename(root.join("a.debug"), place.join(format!("{}.debug", &id[2..]))).unwrap();
    if !rustix::process::geteuid().is_root() {
        skip!("only root may give a program another root");
    }
    let mut standing = start(Command::new("chroot").arg(root).arg("/a"));
    let (frames, cut) = unwind(&mut standing, &mut Natives::default());
    let told = told(&frames);
    assert!(holds(&told, &["app::Pool<int>::get a.c:8", "app::report a.c:10", "main a.c:16"]), "{told:#?}");
    assert_eq!(cut, None, "{told:#?}");
}

#[test]
fn stripped_with_the_symbols_that_a_distribution_leaves_in() {
    let folder = scratch();
    let root = folder.path();
    if !compile(root, C, "gcc -O2 -fno-optimize-sibling-calls -o a a.c") {
        skip!("no gcc");
    }
    if !run(root, "objcopy --only-keep-debug a mini") || !run(root, "xz -k mini") {
        skip!("no objcopy or no xz");
    }
    run(root, "strip --strip-all a");
    run(root, "objcopy --add-section .gnu_debugdata=mini.xz a");
    let mut standing = start(&mut Command::new(root.join("a")));
    let mut natives = Natives::default();
    let (frames, cut) = unwind(&mut standing, &mut natives);
    assert!(holds(&told(&frames), &["ask ?:?", "outer ?:?", "outer ?:?", "main ?:?"]), "{:#?}", told(&frames));
    assert_eq!(cut, None);
    let mapping = standing.process.mappings().iter().find(|mapping| mapping.is_executable).unwrap().clone();
    let ask = natives.find_symbol(&standing.process, &mapping, &["nowhere", "ask"]).unwrap();
    let frame = frames.iter().find(|frame| frame.frames[0].function.as_deref() == Some("ask")).unwrap();
    assert!((ask.address..ask.address + ask.bytes).contains(&frame.address), "{ask:x?} {frame:x?}");
    assert_eq!(ask.address - mapping.start + mapping.offset, ask.file_offset.unwrap());
}

#[test]
fn without_any_symbol_a_frame_has_its_module_alone() {
    let folder = scratch();
    let root = folder.path();
    if !compile(root, C, "gcc -O2 -s -fno-optimize-sibling-calls -o a a.c") {
        skip!("no gcc");
    }
    let mut standing = start(&mut Command::new(root.join("a")));
    let (frames, cut) = unwind(&mut standing, &mut Natives::default());
    let own: Vec<&Frame> = frames.iter().flat_map(|frame| &frame.frames).collect();
    let is_nameless = |frame: &&&Frame| {
        frame.function.is_none() && frame.module.as_deref().is_some_and(|module| module.ends_with("/a"))
    };
    assert!(own.iter().filter(is_nameless).count() >= 4, "{own:#?}");
    assert_eq!(cut, None);
}
