//! `doctor` of the ledger: what it says of hooks, TLS, runtimes and lines of code holds for real programs, and mends them.

use crate::act::{AS_NOBODY, Done, Folder, Run, Running, has, is_root, skip};
use crate::doctor::{remedy, source};
use crate::leakers::Churn;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// A program that waits until it is ended.
const WAITS: &str = "#include <unistd.h>\nint main(void) { write(1, \"up\\n\", 3); pause(); return 0; }\n";

/// `doctor` of that process.
fn of(pid: u32) -> Value {
    Run::it(format!("doctor {pid} -o json")).done().ok().json()
}

/// Why a source works or doesn't.
fn why<'a>(diagnosis: &'a Value, name: &str) -> &'a str {
    source(diagnosis, name)["why"].as_str().unwrap()
}

/// A program, up and waiting.
fn up(run: Run) -> Running {
    let mut running = run.start();
    running.line("up");
    running
}

/// A program in C that waits, built with these flags.
fn built(folder: &Folder, flags: &str) -> Running {
    let (source, program) = (folder.with("waits.c", WAITS), folder.file("waits"));
    Run::program("gcc", flags.split_whitespace()).file(&source).and("-o").file(&program).done().ok();
    up(Run::program(&program, [""; 0]))
}

/// What keeps a ledger from being kept here, where something does.
fn refused() -> Option<String> {
    let here = Run::it("doctor -o json").done().ok().json();
    (source(&here, "stacks")["works"] != "yes").then(|| why(&here, "stacks").to_owned())
}

#[test]
fn a_runtime_is_told_with_its_version_and_the_hooks_with_their_cost() {
    if let Some(why) = refused() {
        skip!("{why}");
    }
    let churn = Churn::with("--leak-per-second 1");
    let told = of(churn.pid);
    let version = ["-c", "import sys; print('Python %d.%d' % sys.version_info[:2])"];
    let python = Run::program("python3", version).done().ok().out;
    assert!(why(&told, "runtime_frames").starts_with(python.trim()), "{told:#}");
    for name in ["stacks", "payloads", "tls", "runtime_frames", "lines", "io_uring"] {
        assert_eq!(source(&told, name)["works"], "yes", "{told:#}");
    }
    assert!(why(&told, "stacks").contains("25 ns") && why(&told, "stacks").contains("--openers connections"));
    let text = Run::it(format!("doctor {}", churn.pid)).done().ok();
    let is_prose = |line: &&str| !line.contains("sudo ") && !line.contains(" run --rm");
    for line in text.out.lines().skip(1).filter(is_prose) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn a_stripped_go_program_says_its_version() {
    if !has("go") || refused().is_some() {
        skip!("there is no go, or no ledger");
    }
    let folder = Folder::new();
    let text = "package main\nimport (\"fmt\"; \"time\")\nfunc main() { fmt.Println(\"up\"); time.Sleep(time.Hour) }\n";
    let (file, program) = (folder.with("waits.go", text), folder.file("waits"));
    let build = Run::program("go", ["build", "-ldflags", "-s -w", "-o"]).file(&program).file(&file);
    build.env("GO111MODULE", "off").env("GOCACHE", folder.file("cache")).env("GOTOOLCHAIN", "local").done().ok();
    let waits = up(Run::program(&program, [""; 0]));
    let version = Run::program("go", ["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").done().ok().out;
    let told = of(waits.pid());
    let expected = format!("Go {}:", version.trim().trim_start_matches("go"));
    assert!(why(&told, "runtime_frames").starts_with(&expected), "{expected} {told:#}");
    assert_eq!(source(&told, "lines")["works"], "yes", "{told:#}");
}

#[test]
fn lines_of_a_native_program_are_promised_only_where_it_has_them() {
    if !has("gcc") || !has("objcopy") {
        skip!("there is no gcc, or no objcopy");
    }
    let folder = Folder::new();
    let told = of(built(&folder, "-g").pid());
    assert_eq!(source(&told, "lines")["works"], "yes", "{told:#}");
    let told = of(built(&folder, "-g0").pid());
    assert_eq!(source(&told, "lines")["works"], "partly", "{told:#}");
    let stripped = built(&folder, "-s");
    let told = of(stripped.pid());
    assert_eq!(source(&told, "lines")["works"], "no", "{told:#}");
    let program = folder.file("waits");
    assert!(remedy(&told, "lines").contains(&format!("build {} with -g", program.display())), "{told:#}");
    drop(stripped);
    // And it mends: with a debug file beside it, lines are promised again.
    drop(built(&folder, "-g"));
    std::fs::create_dir(folder.file(".debug")).unwrap();
    let apart = folder.file(".debug/waits.debug");
    Run::program("objcopy", ["--only-keep-debug"]).file(&program).file(&apart).done().ok();
    Run::program("objcopy", ["--strip-all", "--add-gnu-debuglink"]).file(&apart).file(&program).done().ok();
    let told = of(up(Run::program(&program, [""; 0])).pid());
    assert_eq!(source(&told, "lines")["works"], "yes", "{told:#}");
    assert!(why(&told, "lines").contains("separate debug file"), "{told:#}");
}

#[test]
fn a_program_of_the_distribution_gets_lines_by_its_package() {
    let owner = |path: &str| Command::new("dpkg").args(["-S", path]).output().ok();
    let owner = ["/usr/bin/sleep", "/bin/sleep"].map(owner).into_iter().flatten().find(|it| it.status.success());
    let Some(owner) = owner else { skip!("no package of dpkg has sleep") };
    let owner = String::from_utf8(owner.stdout).unwrap();
    let package = owner.split(':').next().unwrap();
    let sleep = Run::program("sleep", ["3600"]).start();
    let told = of(sleep.pid());
    if source(&told, "lines")["works"] == "yes" {
        skip!("sleep has its debug information here");
    }
    assert!(remedy(&told, "lines").starts_with(&format!("sudo apt install {package}-dbgsym ")), "{told:#}");
}

#[test]
fn the_libraries_that_encrypt_are_named() {
    if refused().is_some() || !has("python3") {
        skip!("no ledger, or no python3");
    }
    let plain = up(Run::program("python3", ["-c", "print('up', flush=True); import time; time.sleep(3600)"]));
    assert!(why(&of(plain.pid()), "tls").contains("nothing is mapped"), "{:#}", of(plain.pid()));
    let tls = up(Run::program("python3", ["-c", "import ssl, time; print('up', flush=True); time.sleep(3600)"]));
    let told = of(tls.pid());
    assert!(why(&told, "tls").contains("libssl") && why(&told, "tls").contains("a trap in"), "{told:#}");
}

#[test]
fn rings_of_io_uring_are_told() {
    // 425 is io_uring_setup on every architecture.
    let script = "import ctypes, time\n\
                  ring = ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer(120))\n\
                  print('up', ring, flush=True); time.sleep(3600)";
    let mut ring = Run::program("python3", ["-c", script]).start();
    if ring.line("up").ends_with("-1") {
        skip!("the kernel makes no rings here");
    }
    let told = of(ring.pid());
    assert_eq!(source(&told, "io_uring")["works"], "partly", "{told:#}");
    assert!(why(&told, "io_uring").starts_with("it holds 1:"), "{told:#}");
}

#[test]
fn without_privilege_each_source_says_what_the_ledger_takes() {
    if !is_root() || !has("setpriv") {
        skip!("only root can become somebody else");
    }
    let folder = Folder::new();
    let program = folder.program_for_all();
    let churn = Churn::with("--leak-per-second 1");
    let told = as_nobody(&program, &format!("doctor {} -o json", churn.pid)).ok().json();
    let two = "cap_dac_read_search,cap_sys_ptrace";
    for (name, of_bpf) in
        [("stacks", "cap_perfmon,cap_bpf"), ("payloads", "cap_perfmon,cap_bpf"), ("tls", "cap_sys_admin")]
    {
        assert_eq!(source(&told, name)["works"], "no", "{told:#}");
        let all = &format!("{two},{of_bpf}+ep");
        assert!(remedy(&told, name).contains(all), "{}", remedy(&told, name));
    }
    // What is its own is read without: the hooks are all that is closed.
    let line = format!("{AS_NOBODY} sh -c 'exec {} doctor $$ -o json'", program.display());
    let own = Run::shell(&line).done().ok().json();
    assert_eq!(source(&own, "runtime_frames")["works"], "yes", "{own:#}");
    assert!(remedy(&own, "stacks").contains("setcap cap_perfmon,cap_bpf+ep "), "{own:#}");
}

#[test]
fn a_watch_says_in_a_line_how_openers_are_seen_or_why_they_are_not() {
    let churn = Churn::with("--leak-per-second 1");
    let watch = |flags: &str| {
        let folder = Folder::new();
        let command = Run::it(format!("record -p {} --for 1s --every 1s {flags}", churn.pid));
        command.output(&folder.file("it.unclosed")).done().ok().err
    };
    assert!(!watch("--no-ledger").contains("(BPF)\n"), "what was left out is not said to be there");
    if is_root() && has("setpriv") {
        let folder = Folder::new();
        let program = folder.program_for_all();
        let line = format!("{AS_NOBODY} sh -c 'exec {} watch -p $$ --for 1s'", program.display());
        let refused = Run::shell(&line).env("HOME", "/nonexistent").env("XDG_STATE_HOME", "/nonexistent").done().ok();
        refused.complains(&["Who opened what, and who used it last, can't be seen: BPF needs CAP_BPF"]);
    }
    if let Some(why) = refused() {
        skip!("{why}");
    }
    assert!(watch("").contains("\nOpeners of every descriptor, last uses of sockets (BPF).\n"));
    assert!(watch("--openers connections").contains("\nOpeners and last uses of connections (BPF).\n"));
    assert!(watch("--sends-by calls").contains("\nOpeners and last uses by system calls (BPF).\n"));
}

/// That program as nobody.
fn as_nobody(program: &Path, arguments: &str) -> Done {
    Run::shell(&format!("{AS_NOBODY} {} {arguments}", program.display())).done()
}
