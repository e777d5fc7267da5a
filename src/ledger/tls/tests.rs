//! A real server, real clients: what each socket is told to have sent.

use super::*;
use crate::bpf::Unavailable;
use crate::ledger::hooks::{Hooks, SendHook};
use crate::ledger::records::{SocketUse, USE_BYTES};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/server.py");
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/client.py");

const GO_CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/client.go");

/// `struct target`.
const TARGET_WORDS: usize = 71;

struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    /// One that hears whatever is said; `None` without openssl.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("makes");
        let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1", "-keyout"]);
        match make.arg(&key).arg("-out").arg(&certificate).output() {
            Ok(made) => assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr)),
            Err(why) => {
                eprintln!("SKIPPED: openssl: {why}");
                return None;
            }
        }
        let mut server = Command::new("/usr/bin/python3");
        server.arg(SERVER).arg(&key).arg(&certificate);
        let mut child = server.stdout(Stdio::piped()).spawn().expect("starts");
        let mut port = String::new();
        BufReader::new(child.stdout.take().expect("is piped")).read_line(&mut port).expect("answers");
        let port = port.trim().parse().expect("a port");
        Some(Server { child, port, _folder: folder })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// A program that is watched, and does as it is told.
struct Client {
    child: Child,
    answers: BufReader<ChildStdout>,
    hooks: Hooks,
    _tls: Tls,
}

impl Client {
    fn start(mut command: Command) -> Option<Self> {
        let hooks = match Hooks::attach(SendHook::Auto) {
            Ok(hooks) => hooks,
            Err(why @ Unavailable::Other(_)) => panic!("{why}"),
            Err(why) => {
                eprintln!("SKIPPED: {why}");
                return None;
            }
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let mut answers = BufReader::new(child.stdout.take().expect("is piped"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("answers");
        let process = Process::open(Path::new("/proc"), child.id()).expect("is there");
        let mut tls = Tls::default();
        let notes = tls.attach(&process, &mut Natives::default(), &hooks.object);
        assert_eq!(notes, Vec::<String>::new());
        assert!(tls.attached[&child.id()].values().any(|links| !links.is_empty()), "found nothing");
        hooks.targets.update(&child.id(), &[0_u64; TARGET_WORDS]).expect("is told");
        Some(Client { child, answers, hooks, _tls: tls })
    }

    /// Has it do something; the inode of the socket that it says.
    fn act(&mut self, what: &str) -> u64 {
        writeln!(self.child.stdin.as_ref().expect("is piped"), "{what}").expect("hears");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("answers");
        line.trim().parse().unwrap_or_else(|_| panic!("{what}: {line:?}"))
    }

    /// What a socket is told to have sent last: its words, or that they aren't known.
    fn last_of(&self, inode: u64) -> Result<String, &'static str> {
        let mut key: Option<u64> = None;
        while let Some(next) = self.hooks.uses.key_after(key).expect("walks") {
            key = Some(next);
            let found = SocketUse::new(&self.hooks.uses.get::<u64, USE_BYTES>(&next).expect("reads"));
            if found.inode == inode {
                let last = found.writes.last().expect("has written");
                let words = String::from_utf8_lossy(&last.bytes).into_owned();
                return if last.is_encrypted { Err("encrypted") } else { Ok(words) };
            }
        }
        Err("never")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

#[test]
fn what_is_said_is_told_of_the_socket_that_it_is_said_on() {
    for version in ["1.2", "1.3"] {
        let Some(server) = Server::start() else { return };
        let mut python = Command::new("/usr/bin/python3");
        python.args([CLIENT, &server.port.to_string(), version]);
        let Some(mut client) = Client::start(python) else { return };
        let said = |text: &str| Ok(text.to_owned());

        let direct = client.act("it = d = direct(); it.sendall(b'SELECT 1')");
        assert_eq!(client.last_of(direct), said("SELECT 1"), "{version}");
        client.act("it = d; it.sendall(b'x' * 100000)");
        assert_eq!(client.last_of(direct), Ok("x".repeat(512)), "{version}");

        // What is plain in between stays what it is, and takes nothing away.
        client.act("it = a = Memory()");
        let plain = client.act("p, q = plain(); a.write(b'GET /a'); it = p; p.send(b'plain')");
        let a = client.act("it = a; a.send()");
        assert_eq!((client.last_of(plain), client.last_of(a)), (said("plain"), said("GET /a")), "{version}");

        // Two wait whose sockets aren't known yet: what isn't sure isn't told.
        let b = client.act("it = b = Memory(); c = Memory(); b.write(b'GET /bb'); c.write(b'GET /ccc'); b.send()");
        let c = client.act("it = c; c.send()");
        assert_eq!((client.last_of(b), client.last_of(c)), (Err("encrypted"), Err("encrypted")), "{version}");
        // Once each has been seen alone, it is known.
        client.act("it = b; b.write(b'GET /b2'); b.send()");
        assert_eq!(client.last_of(b), said("GET /b2"), "{version}");
        client.act("it = b; b.write(b'first of b'); c.write(b'first of c'); b.send(); c.send()");
        assert_eq!((client.last_of(b), client.last_of(c)), (said("first of b"), said("first of c")), "{version}");
        client.act("it = b; b.write(b'one of b'); c.write(b'one of c'); c.send(); b.send()");
        assert_eq!((client.last_of(b), client.last_of(c)), (said("one of b"), said("one of c")), "{version}");

        // Several become one: the last is told, or that it isn't known, never another's.
        client.act("it = b; b.write(b'the first'); b.write(b'bbbb'); c.write(b'cccc'); b.send()");
        assert_eq!(client.last_of(b), said("bbbb"), "{version}");
    }
}

#[test]
fn what_go_encrypts_is_told_too() {
    let folder = tempfile::tempdir().expect("makes");
    let program = folder.path().join("client");
    let mut go = Command::new("go");
    go.args(["build", "-ldflags=-s -w", "-o"]).arg(&program).arg(GO_CLIENT).env("GO111MODULE", "off");
    match go.output() {
        Ok(built) => assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr)),
        Err(why) => return eprintln!("SKIPPED: go: {why}"),
    }
    let Some(server) = Server::start() else { return };
    let mut command = Command::new(program);
    command.arg(server.port.to_string());
    let Some(mut client) = Client::start(command) else { return };
    let first = client.act("0 SELECT 1");
    let second = client.act("1 SELECT 2");
    assert_eq!((client.last_of(first), client.last_of(second)), (Ok("SELECT 1".into()), Ok("SELECT 2".into())));
    // By another goroutine, deep down, so that its stack has been moved.
    client.act("0 deep");
    assert_eq!((client.last_of(first), client.last_of(second)), (Ok("deep".into()), Ok("SELECT 2".into())));
}
