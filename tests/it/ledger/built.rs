//! The leakers under `tests/leakers/ledger`, built as users' programs are: optimized, with and without their symbols.

use crate::act::{Folder, Run, has};
use std::path::{Path, PathBuf};

/// The path of a leaker's source, or of what it needs.
pub(super) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/leakers/ledger").join(name)
}

/// Where the leakers in Python find what they import, as a user's code finds its packages.
pub(super) fn packages() -> PathBuf {
    source("site-packages")
}

/// What is built, or why it can't be here.
pub(super) type Built = Result<PathBuf, String>;

/// A program in C, or in C++ where its name says so, as Debian builds its packages: no frame pointers. Further flags last.
pub(super) fn c(folder: &Folder, name: &str, flags: &str) -> Built {
    let compiler = if name.ends_with(".cpp") { "g++" } else { "gcc" };
    if !has(compiler) {
        return Err(format!("there is no {compiler}"));
    }
    let built = folder.file("leaker");
    let words = "-O2 -g -fomit-frame-pointer -Wall -Wextra -Werror -pthread -I/usr/include/postgresql -o";
    Run::program(compiler, words.split(' ')).file(&built).file(&source(name)).and(flags).done().ok();
    Ok(built)
}

/// A program in C with Debian's libpq.
pub(super) fn with_libpq(folder: &Folder, name: &str) -> Built {
    if !Path::new("/usr/include/postgresql/libpq-fe.h").exists() {
        return Err("there is no libpq-fe.h, of Debian's libpq-dev".to_owned());
    }
    c(folder, name, "-lpq")
}

/// A program in Rust as a release has it, with no more than line tables.
pub(super) fn rust(folder: &Folder, name: &str) -> Built {
    if !has("rustc") {
        return Err("there is no rustc".to_owned());
    }
    let built = folder.file("leaker");
    let words = "--edition 2024 -O -C debuginfo=line-tables-only -o";
    Run::program("rustc", words.split(' ')).file(&built).file(&source(name)).done().ok();
    Ok(built)
}

/// A program in Go. Flags for its linker: `-s -w` strips it.
pub(super) fn go(folder: &Folder, name: &str, linker: &str) -> Built {
    if !has("go") {
        return Err("there is no go".to_owned());
    }
    let built = folder.file("leaker");
    let cache = folder.file("go-cache");
    let build = Run::program("go", ["build", "-ldflags", linker, "-o"]).file(&built).file(&source(name));
    build.env("GO111MODULE", "off").env("GOCACHE", cache).env("GOTOOLCHAIN", "local").done().ok();
    Ok(built)
}

/// A program whose debug information stands in a file of its own, named by a link in the program: `leaker.debug` beside it.
pub(super) fn stripped_with_debug_link(folder: &Folder, name: &str) -> Built {
    let program = c(folder, name, "-Wl,--build-id=none")?;
    let debug = strip(&program)?;
    let link = format!("--add-gnu-debuglink={}", debug.display());
    Run::program("objcopy", [link]).file(&program).within(folder.path()).done().ok();
    Ok(program)
}

/// A program whose debug information stands where a distribution's packages of debug symbols put it, by the build id. The
/// second folder is what `/usr/lib/debug` has to show to the program.
pub(super) fn stripped_with_build_id(folder: &Folder, name: &str) -> Result<(PathBuf, PathBuf), String> {
    let program = c(folder, name, "-Wl,--build-id")?;
    let debug = strip(&program)?;
    let notes = Run::program("readelf", ["-n"]).file(&program).done().ok().out;
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap_or_else(|| panic!("{notes}"));
    let (first, rest) = id.split_at(2);
    let place = folder.file("debug");
    let by_id = place.join(".build-id").join(first);
    std::fs::create_dir_all(&by_id).unwrap();
    std::fs::rename(debug, by_id.join(format!("{rest}.debug"))).unwrap();
    Ok((program, place))
}

/// Takes debug information and symbols out of a program, into a file beside it.
fn strip(program: &Path) -> Built {
    if !has("objcopy") || !has("strip") || !has("readelf") {
        return Err("there are no binutils".to_owned());
    }
    let debug = program.with_extension("debug");
    Run::program("objcopy", ["--only-keep-debug"]).file(program).file(&debug).done().ok();
    Run::program("strip", ["--strip-all"]).file(program).done().ok();
    Ok(debug)
}
