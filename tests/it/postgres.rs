//! A real PostgreSQL and a client that forgets its connections: over TCP, over the Unix socket, and one that is fine.

use crate::act::{Folder, Run, Running, has, is_root, leak_in, leaked_of, shown, skip, until};
use crate::leakers::pg_leak;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The newest of Debian's, which keeps its programs out of PATH.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions.flatten().map(|it| it.path().join("bin")).collect();
    found.retain(|it| it.join("initdb").exists());
    found.sort();
    found.pop()
}

/// A server of our own: its data in a folder, its port, its Unix socket. It ends with the case.
pub(crate) struct Server {
    _running: Running,
    pub(crate) folder: Folder,
    port: u16,
}

impl Server {
    pub(crate) fn start(programs: &Path) -> Self {
        Server::with(programs, |_| String::new())
    }

    /// One that speaks TLS too, with a certificate of its own.
    pub(crate) fn with_tls(programs: &Path) -> Self {
        Server::with(programs, |folder| {
            let [key, certificate] = ["server.key", "server.crt"].map(|name| folder.file(name).display().to_string());
            let words = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -keyout";
            let words: Vec<&str> = words.split(' ').chain([key.as_str(), "-out", &certificate]).collect();
            as_nobody(&words).done().ok();
            format!(" ssl=on ssl_key_file={key} ssl_cert_file={certificate}")
        })
    }

    /// With further settings, a blank before each.
    fn with(programs: &Path, settings: impl Fn(&Folder) -> String) -> Self {
        let folder = Folder::new();
        let data = folder.file("data").display().to_string();
        let initdb = programs.join("initdb").display().to_string();
        if is_root() {
            // PostgreSQL won't run as root.
            Run::program("chown", ["nobody", &folder.path().display().to_string()]).done().ok();
        }
        as_nobody(&[&initdb, "-D", &data, "-U", "postgres", "-A", "trust", "--no-sync"]).done().ok();
        // Free now; nobody else takes it so soon, for the kernel hands out others first.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let place = folder.path().display().to_string();
        let postgres = programs.join("postgres").display().to_string();
        let listens = format!(
            "listen_addresses=127.0.0.1 port={port} unix_socket_directories={place} fsync=off max_connections=500{}",
            settings(&folder)
        );
        let mut words = vec![postgres.as_str(), "-D", &data];
        listens.split(' ').for_each(|setting| words.extend(["-c", setting]));
        let running = as_nobody(&words).start();
        until("PostgreSQL to listen", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        Server { _running: running, folder, port }
    }

    pub(crate) fn dsn(&self, host: &str) -> String {
        format!("host={host} port={} dbname=postgres user=postgres", self.port)
    }
}

fn as_nobody(words: &[&str]) -> Run {
    let become_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"];
    let words: Vec<&str> = if is_root() { [&become_nobody, words].concat() } else { words.to_vec() };
    Run::program(words[0], &words[1..]).within(Path::new("/"))
}

/// A Python that has what `./test` installed.
pub(crate) fn python() -> Option<String> {
    let python = std::env::var("UNCLOSED_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import psycopg2"]).output().is_ok_and(|it| it.status.success());
    has.then_some(python)
}

/// A client, and its recorder.
struct Watched {
    client: Running,
    record: Running,
    file: PathBuf,
}

impl Watched {
    fn start(python: &str, server: &Server, host: &str, name: &str, leak: &str) -> Self {
        let mut client = Run::program(python, [&pg_leak(), "--dsn", &server.dsn(host)]).and(leak).start();
        let pid = client.line_that("its pid", |line| line.parse::<u32>().is_ok());
        let file = server.folder.file(name);
        let mut record = Run::it(format!("record -p {pid} --every 500ms")).output(&file).start();
        record.complaint("Recording to ");
        Watched { client, record, file }
    }

    /// Ends both; returns what the recording says and how many connections the client forgot.
    fn done(self) -> (Value, usize) {
        self.record.interrupt().ok().complains(&["Recording: "]);
        self.client.signal(Signal::KILL);
        let forgotten = self.client.done().out.lines().filter(|line| line.starts_with("leaked ")).count();
        (shown(&self.file), forgotten)
    }
}

/// What these cases need: a server's programs, a Python with its driver.
fn needed() -> Result<(PathBuf, String), &'static str> {
    Ok((needed_programs()?, python().ok_or("there is no Python with psycopg2")?))
}

/// What a server needs: its programs, and one that has it run as somebody else than root.
pub(crate) fn needed_programs() -> Result<PathBuf, &'static str> {
    if is_root() && !has("setpriv") {
        return Err("there is no setpriv, and PostgreSQL won't run as root");
    }
    programs().ok_or("there is no PostgreSQL server")
}

#[test]
fn a_client_that_forgets_its_connections_is_told_from_one_that_does_not() {
    let (programs, python) = match needed() {
        Ok(found) => found,
        Err(why) => skip!("{why}"),
    };
    let server = Server::start(&programs);
    let leaking = Watched::start(&python, &server, "127.0.0.1", "leak.unclosed", "--leak");
    let fine = Watched::start(&python, &server, "127.0.0.1", "fine.unclosed", "--no-leak");
    // About one a second is forgotten.
    leak_in(&leaking.file, 20);
    let (report, leaked) = leaking.done();
    check_leak(&report, leaked, "tcp", &format!("127.0.0.1:{}", server.port));
    let (report, _) = fine.done();
    let kind = &report["verdict"]["kind"];
    assert!(kind == "clean" || kind == "undecided", "{:#}", report["verdict"]);
    assert!(leaked_of(&report).is_empty());
}

#[test]
fn connections_over_a_unix_socket_are_counted_by_the_servers_path() {
    let (programs, python) = match needed() {
        Ok(found) => found,
        Err(why) => skip!("{why}"),
    };
    let server = Server::start(&programs);
    let socket = server.folder.path().display().to_string();
    let leaking = Watched::start(&python, &server, &socket, "leak.unclosed", "--leak");
    let series = format!("connections:{socket}/.s.PGSQL.{}", server.port);
    let count = |report: &Value| {
        let all = report["series"].as_array().unwrap();
        all.iter().find(|it| it["name"] == series).and_then(|it| it["last"].as_u64())
    };
    until("ten connections that were forgotten", || count(&shown(&leaking.file)).filter(|count| *count > 12));
    let (report, leaked) = leaking.done();
    let connections = count(&report).unwrap();
    assert!((leaked as u64..=leaked as u64 + 5).contains(&connections), "{connections} are open, {leaked} forgotten");
    assert_ne!(report["verdict"]["kind"], "clean", "{:#}", report["verdict"]);
}

#[test]
fn a_client_that_forgets_its_connections_over_a_unix_socket_is_told() {
    let (programs, python) = match needed() {
        Ok(found) => found,
        Err(why) => skip!("{why}"),
    };
    let server = Server::start(&programs);
    let socket = server.folder.path().display().to_string();
    let leaking = Watched::start(&python, &server, &socket, "leak.unclosed", "--leak");
    leak_in(&leaking.file, 20);
    let (report, leaked) = leaking.done();
    check_leak(&report, leaked, "unix", &format!("{socket}/.s.PGSQL.{}", server.port));
}

/// The verdict names the server; what is called leaked was forgotten, and is most of it.
fn check_leak(report: &Value, leaked: usize, kind: &str, endpoint: &str) {
    let verdict = &report["verdict"];
    assert_eq!(verdict["kind"], "leak", "{kind}: {verdict:#}");
    assert_eq!(verdict["subject"], format!("{kind} {endpoint}"));
    let called: Vec<&Value> = leaked_of(report).into_iter().filter(|it| it["remote"] == endpoint).collect();
    assert!(called.len() * 2 >= leaked, "{kind}: {} of {leaked} are called leaked", called.len());
    // The pool has two; of these one may lie idle all the time, and samples can't tell that one from a forgotten one.
    assert!(called.len() <= leaked + 1, "{kind}: {} of {leaked} are called leaked", called.len());
    let in_use = |it: &&&Value| it["silent_seconds"].as_f64().is_some_and(|silent| silent < 5.0);
    assert_eq!(called.iter().filter(in_use).count(), 0, "{kind}: the pool is called leaked");
    assert_eq!(called.len(), leaked_of(report).len(), "{kind}: nothing else leaks");
}
