//! Small programs that leak, in every language the ledger knows: the line that leaks is named, beside healthy traffic.
//!
//! The lines that have to be named are marked in the sources, `tests/leakers/ledger`. Each case prints a row of a table:
//! how many were forgotten, how many called leaked, how many of these name the marked line.

mod built;
mod echo;
mod seen;

use crate::act::{Folder, Run, has, is_root, skip};
use crate::postgres::{self, Server};
use seen::{Leaker, Seen};
use std::path::Path;

/// What a case needs, or it is skipped, aloud.
macro_rules! needs {
    ($what:expr) => {
        match $what {
            Ok(it) => it,
            Err(why) => skip!("{why}"),
        }
    };
}

/// The privilege and the kernel that the ledger needs.
fn ledger() -> Result<(), &'static str> {
    if !is_root() {
        return Err("only root attaches the ledger");
    }
    Path::new("/sys/kernel/btf/vmlinux").exists().then_some(()).ok_or("the kernel has no BTF")
}

/// The ways to a server of PostgreSQL.
#[derive(Clone, Copy)]
enum Way {
    Tcp,
    Tls,
    Unix,
}

/// A server of PostgreSQL, and how to reach it that way.
fn postgres(way: Way) -> Result<(Server, String), &'static str> {
    ledger()?;
    let programs = postgres::needed_programs()?;
    if matches!(way, Way::Tls) && !has("openssl") {
        return Err("there is no openssl, which makes the server's certificate");
    }
    let server = if matches!(way, Way::Tls) { Server::with_tls(&programs) } else { Server::start(&programs) };
    let socket = server.folder.path().display().to_string();
    let dsn = match way {
        Way::Tcp => server.dsn("127.0.0.1") + " sslmode=disable",
        Way::Tls => server.dsn("127.0.0.1") + " sslmode=require",
        Way::Unix => server.dsn(&socket),
    };
    Ok((server, dsn))
}

/// The statement that comes before the commit, as far as it has no literals.
const REPORT: &str = "SELECT relname, reltuples FROM pg_class WHERE relkind = ";

fn libpq(title: &'static str, way: Way) {
    let (_server, dsn) = needs!(postgres(way));
    let folder = Folder::new();
    let program = needs!(built::with_libpq(&folder, "libpq.c"));
    let leaker = Leaker { title, source: "libpq.c", culprits: &["export_report"], flags: "" };
    leaker.watched(&folder, Run::program(program, [dsn])).says(REPORT);
}

#[test]
fn c_with_debians_libpq_over_tcp() {
    libpq("C, libpq, TCP", Way::Tcp);
}

#[test]
fn c_with_debians_libpq_over_tls() {
    libpq("C, libpq, TLS", Way::Tls);
}

#[test]
fn c_with_debians_libpq_over_a_unix_socket() {
    libpq("C, libpq, Unix socket", Way::Unix);
}

#[test]
fn c_with_a_prepared_statement_whose_text_was_sent_long_before() {
    let (_server, dsn) = needs!(postgres(Way::Tcp));
    let folder = Folder::new();
    let program = needs!(built::with_libpq(&folder, "libpq.c"));
    let culprits = &["export_prepared_report"];
    let leaker = Leaker { title: "C, libpq, prepared", source: "libpq.c", culprits, flags: "" };
    leaker.watched(&folder, Run::program(program, [dsn.as_str(), "prepared"])).says(REPORT);
}

fn psycopg2(title: &'static str, way: Way) {
    let (_server, dsn) = needs!(postgres(way));
    let python = needs!(postgres::python().ok_or("there is no Python with psycopg2"));
    let leaker = Leaker { title, source: "report.py", culprits: &["Reports.export"], flags: "" };
    let program = Run::program(python, [built::source("report.py")]).and_whole(&dsn);
    leaker.watched(&Folder::new(), program).says(REPORT);
}

#[test]
fn python_with_psycopg2_over_tcp() {
    psycopg2("Python, psycopg2, TCP", Way::Tcp);
}

#[test]
fn python_with_psycopg2_over_tls() {
    psycopg2("Python, psycopg2, TLS", Way::Tls);
}

#[test]
fn python_with_psycopg2_over_a_unix_socket() {
    psycopg2("Python, psycopg2, Unix socket", Way::Unix);
}

#[test]
fn python_whose_pool_opens_in_a_thread_of_its_own() {
    let (_server, dsn) = needs!(postgres(Way::Tcp));
    let python = needs!(postgres::python().ok_or("there is no Python with psycopg2"));
    let leaker = Leaker { title: "Python, a pool's thread", source: "pool.py", culprits: &["charge_cards"], flags: "" };
    let program = Run::program(python, [built::source("pool.py")]).and_whole(&dsn);
    let seen = leaker.watched(&Folder::new(), program.env("PYTHONPATH", built::packages()));
    seen.has_no_own_opener().says("SELECT relname FROM pg_class WHERE relname = ");
}

/// A leaker in Python that talks to an echo.
fn python(leaker: Leaker) {
    needs!(ledger());
    let python = needs!(postgres::python().ok_or("there is no Python of the tests"));
    let program = Run::program(python, [built::source(leaker.source)]).and(&echo::on_loopback());
    leaker.watched(&Folder::new(), program.env("PYTHONPATH", built::packages()));
}

#[test]
fn python_with_asyncio_whose_driver_opens_in_another_task() {
    let culprits = &["fetch_invoice", "serve_order"];
    python(Leaker { title: "Python, asyncio", source: "streams.py", culprits, flags: "" });
}

#[test]
fn python_with_two_callers_at_equal_depth() {
    let culprits = &["import_prices"];
    python(Leaker { title: "Python, two callers", source: "two_callers.py", culprits, flags: "" });
}

/// A leaker in C that talks to an echo, watched.
fn c(leaker: Leaker, mode: &str) -> Result<Seen, String> {
    ledger()?;
    let folder = Folder::new();
    let program = built::c(&folder, leaker.source, "")?;
    Ok(leaker.watched(&folder, Run::program(program, [echo::on_loopback()]).and(mode)))
}

#[test]
fn c_with_two_callers_at_equal_depth() {
    let culprits = &["import_prices"];
    needs!(c(Leaker { title: "C, two callers", source: "two_callers.c", culprits, flags: "" }, ""));
}

#[test]
fn c_whose_connection_is_held_in_a_deadlock() {
    let culprits = &["settle_payment", "post_to_accounts"];
    let leaker = Leaker { title: "C, held in a deadlock", source: "held.c", culprits, flags: "" };
    needs!(c(leaker, "waiting")).waits_for("lock", true);
}

#[test]
fn c_whose_threads_end_and_forget() {
    let culprits = &["settle_payment"];
    let leaker = Leaker { title: "C, forgotten by a thread", source: "held.c", culprits, flags: "" };
    needs!(c(leaker, "forgotten")).waits_for("lock", false);
}

#[test]
fn c_whose_forked_workers_leak() {
    let culprits = &["fetch_avatar"];
    needs!(c(Leaker { title: "C, forked workers", source: "workers.c", culprits, flags: "--children" }, ""));
}

#[test]
fn c_whose_server_forgets_who_hung_up() {
    let culprits = &["keep_uploader"];
    needs!(c(Leaker { title: "C, accepted, CLOSE_WAIT", source: "server.c", culprits, flags: "" }, ""));
}

#[test]
fn c_with_a_unix_socket() {
    needs!(ledger());
    let folder = Folder::new();
    let path = folder.file("echo");
    echo::at(&path);
    let program = needs!(built::c(&folder, "unix_client.c", ""));
    let leaker = Leaker { title: "C, Unix socket", source: "unix_client.c", culprits: &["send_audit"], flags: "" };
    leaker.watched(&folder, Run::program(program, [path]));
}

/// What is no connection.
fn kind(title: &'static str, kind: &str, culprits: &'static [&'static str]) {
    needs!(ledger());
    let folder = Folder::new();
    let program = needs!(built::c(&folder, "kinds.c", ""));
    let leaker = Leaker { title, source: "kinds.c", culprits, flags: "" };
    leaker.watched(&folder, Run::program(program, [kind]).file(folder.path()));
}

#[test]
fn c_with_files() {
    kind("C, files", "file", &["append_journal"]);
}

#[test]
fn c_with_pipes() {
    kind("C, pipes", "pipe", &["start_filter"]);
}

#[test]
fn c_with_inotify() {
    kind("C, inotify", "inotify", &["watch_uploads"]);
}

#[test]
fn c_with_eventfds() {
    kind("C, eventfd", "eventfd", &["arm_wakeup"]);
}

const FEEDS: &[&str] = &["feeds::Quotes::refresh"];

#[test]
fn cpp_stripped_with_a_debug_file_by_build_id() {
    needs!(ledger());
    let folder = Folder::new();
    let (program, debug) = needs!(built::stripped_with_build_id(&folder, "feeds.cpp"));
    let leaker = Leaker { title: "C++, stripped, build id", source: "feeds.cpp", culprits: FEEDS, flags: "" };
    // In a mount namespace of its own, for the machine's folder is none of ours: symbols come from the target's own root.
    let line = "mkdir -p /usr/lib/debug && mount --bind \"$0\" /usr/lib/debug && exec \"$1\" \"$2\"";
    let shell = Run::program("unshare", ["--mount", "sh", "-c", line]).file(&debug).file(&program);
    leaker.watched(&folder, shell.and(&echo::on_loopback()));
}

#[test]
fn cpp_stripped_with_a_debug_file_by_link() {
    needs!(ledger());
    let folder = Folder::new();
    let program = needs!(built::stripped_with_debug_link(&folder, "feeds.cpp"));
    let leaker = Leaker { title: "C++, stripped, debug link", source: "feeds.cpp", culprits: FEEDS, flags: "" };
    leaker.watched(&folder, Run::program(program, [echo::on_loopback()]));
}

#[test]
fn rust_release_with_line_tables() {
    needs!(ledger());
    let folder = Folder::new();
    let program = needs!(built::rust(&folder, "sessions.rs"));
    let culprits = &["open_session", "renew"];
    let leaker = Leaker { title: "Rust, release", source: "sessions.rs", culprits, flags: "" };
    leaker.watched(&folder, Run::program(program, [echo::on_loopback()]));
}

/// A leaker in Go, with flags for its linker.
fn go(leaker: Leaker, linker: &str) {
    needs!(ledger());
    let folder = Folder::new();
    let program = needs!(built::go(&folder, leaker.source, linker));
    leaker.watched(&folder, Run::program(program, [echo::on_loopback()]));
}

const EXPORTS: &[&str] = &["main.exportInvoices", "main.scheduleInvoices"];

#[test]
fn go_as_it_is_built() {
    go(Leaker { title: "Go", source: "exports.go", culprits: EXPORTS, flags: "" }, "");
}

#[test]
fn go_stripped() {
    go(Leaker { title: "Go, stripped", source: "exports.go", culprits: EXPORTS, flags: "" }, "-s -w");
}

#[test]
fn go_with_two_callers_at_equal_depth() {
    let culprits = &["main.importPrices"];
    go(Leaker { title: "Go, two callers", source: "two_callers.go", culprits, flags: "" }, "");
}
