//! `run --fail-on-leak` of programs as suites start them: servers, pools, Unix streams; and where not all can be seen.

use crate::act::{AS_NOBODY, Folder, Run, has, is_root, leaked_of, shown, skip, until};
use crate::run::{judged, server};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// `run --fail-on-leak` by somebody who may do nothing special; the folder is everybody's from then on.
fn judged_as_nobody(folder: &Folder, flags: &str, file: &Path, command: &str) -> Run {
    let words: Vec<&str> = AS_NOBODY.split(' ').collect();
    let run = Run::program(words[0], &words[1..]).file(&folder.program_for_all()).and("run --fail-on-leak").and(flags);
    run.output(file).and("--").and(command)
}

/// A server of HTTP/1.1 that forks for each client and ends at SIGTERM; it says its port.
const FORKING_SERVER: &str = "
import http.server, signal, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'ok')
    def log_message(self, *_): pass
class Server(socketserver.ForkingMixIn, http.server.HTTPServer):
    block_on_close = False
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = Server(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
";

/// A suite in Python: starts the server, and has a pool of three connections that each are used.
fn with_server(rest: &str) -> String {
    format!(
        "import http.client, os, subprocess, sys, time
server = subprocess.Popen([sys.executable, '-c', {FORKING_SERVER:?}], stdout=subprocess.PIPE, text=True)
port = int(server.stdout.readline())
pool = [http.client.HTTPConnection('127.0.0.1', port) for _ in range(3)]
def get(connection):
    connection.request('GET', '/')
    assert connection.getresponse().read() == b'ok'
for connection in pool * 5: get(connection)
{rest}"
    )
}

#[test]
fn a_server_that_is_stopped_has_not_left_its_clients() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let folder = Folder::new();
    // Its children hold what they have accepted; the suite closes its own end only then.
    let stops = "server.terminate()\nassert server.wait() == 0\nfor connection in pool: connection.close()";
    judged("", &folder.file("r"), &with_server(stops)).done().ok();
}

#[test]
fn a_pool_that_is_closed_is_fine_and_one_that_is_not_is_left_open() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let folder = Folder::new();
    let stop = "server.terminate()\nserver.wait()";
    let closes = format!("for connection in pool: connection.close()\n{stop}");
    judged("", &folder.file("closed"), &with_server(&closes)).done().ok();
    // By the interpreter, which closes what is in its variables.
    judged("", &folder.file("exit"), &with_server(stop)).done().ok();
    let leaves = format!("{stop}\nos._exit(0)");
    judged("", &folder.file("left"), &with_server(&leaves))
        .done()
        .code(3)
        .complains(&["3 connections to tcp 127.0.0.1"]);
    judged("--allow tcp<=3", &folder.file("allowed"), &with_server(&leaves)).done().ok();
}

#[test]
fn what_a_client_has_closed_and_the_server_has_not_is_left_open() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let folder = Folder::new();
    let file = folder.file("r");
    let serves = "import os, socket, sys, time
server = socket.create_server(('127.0.0.1', 0))
print(server.getsockname()[1], flush=True)
client = server.accept()[0]
sys.stdin.readline()
os._exit(0)";
    let mut running = judged("--every 100ms", &file, serves).start();
    let port: u16 = running.line_that("its port", |line| line.parse::<u16>().is_ok()).parse().unwrap();
    drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
    // It has time to close it, and a tick has seen that it didn't.
    let waits = || {
        let report = shown(&file);
        let resources = report["resources"].as_array()?;
        let hung_up = resources.iter().find(|it| it["state"] == "CLOSE_WAIT")?;
        (hung_up["age_seconds"].as_f64()? > 3.0).then_some(())
    };
    until("three seconds of CLOSE_WAIT", waits);
    running.done().code(3).complains(&["1 connection to tcp accepted 127.0.0.1:"]);
}

#[test]
fn a_unix_stream_to_a_named_peer_counts() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let folder = Folder::new();
    let path = folder.file("db.sock");
    let _server = UnixListener::bind(&path).unwrap();
    let path = path.display().to_string();
    let connects = |rest: &str| {
        format!("import os, socket\no = socket.socket(socket.AF_UNIX)\no.connect({path:?})\n{rest}\nos._exit(0)")
    };
    judged("", &folder.file("left"), &connects("")).done().code(3).complains(&["1 connection to unix", &path]);
    judged("", &folder.file("closed"), &connects("o.close()")).done().ok();
    judged(&format!("--allow unix:{path}<=1"), &folder.file("allowed"), &connects("")).done().ok();
}

#[test]
fn what_found_no_room_in_the_kernel_keeps_the_run_from_being_clean() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let (folder, (port, _server)) = (Folder::new(), server());
    // A hundred children inherit a hundred connections, and none of it is read before the last of them ends.
    let forks = format!(
        "import os, socket
open = [socket.create_connection(('127.0.0.1', {port})) for _ in range(100)]
for _ in range(100):
    if os.fork() == 0: os._exit(0)
for _ in range(100): os.wait()
for one in open: one.close()"
    );
    let done = judged("--every 1h", &folder.file("r"), &forks).done();
    done.code(4).complains(&["not known in full", "connections found no room"]);
    Run::it("show --fail-on-leak").file(&folder.file("r")).done().code(4);
}

#[test]
fn without_privilege_what_was_passed_over_again_and_again_is_left_open() {
    if !is_root() || !has("setpriv") || !Path::new("/usr/bin/python3").exists() {
        skip!("it takes root, setpriv and a python3 that anybody may run");
    }
    let (folder, (port, _server)) = (Folder::new(), server());
    let leaks = format!(
        "import os, socket, time
def connect():
    connection = socket.create_connection(('127.0.0.1', {port}))
    connection.send(b'x')
    return connection
forgotten = connect()
for _ in range(20):
    other = connect()
    time.sleep(0.15)
    other.close()
os._exit(0)"
    );
    let file = folder.file("r");
    let flags = "--every 50ms --settle 1s";
    let done = judged_as_nobody(&folder, flags, &file, "/usr/bin/python3 -c").and_whole(&leaks).done();
    done.code(3).complains(&["1 connection to tcp", "left open, as of the last look", "silent for 1 s or longer"]);
    assert_eq!(leaked_of(&shown(&file)).len(), 1);
}

#[test]
fn a_client_that_binds_its_port_is_no_server_and_a_server_that_listens_no_more_is_no_client() {
    if !is_root() || !has("python3") {
        skip!("it takes root and python3");
    }
    let folder = Folder::new();
    for (family, host) in [("AF_INET", "127.0.0.1"), ("AF_INET6", "::1")] {
        let Ok(server) = TcpListener::bind((host, 0)) else { skip!("there is no {family} here") };
        let port = server.local_addr().unwrap().port();
        let binds = |name: &str, rest: &str| {
            let client = format!(
                "import os, socket
o = socket.socket(socket.{family})
o.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
o.bind(({host:?}, 0))
o.connect(({host:?}, {port}))
{rest}
os._exit(0)"
            );
            judged("--every 1h", &folder.file(&format!("{name}-{family}")), &client).done()
        };
        binds("left", "").code(3);
        binds("closed", "o.close()").ok();
        let serves = format!(
            "import os, socket
server = socket.create_server(({host:?}, 0), family=socket.{family})
print(server.getsockname()[1], flush=True)
client = server.accept()[0]
server.close()
os._exit(0)"
        );
        let mut running = judged("--every 1h", &folder.file(&format!("server-{family}")), &serves).start();
        let port: u16 = running.line_that("its port", |line| line.parse::<u16>().is_ok()).parse().unwrap();
        let _client = TcpStream::connect((host, port)).unwrap();
        running.done().ok();
    }
}

#[test]
fn without_privilege_a_child_of_another_user_keeps_the_run_from_being_clean() {
    if !is_root() || !has("setpriv") {
        skip!("it takes root and setpriv");
    }
    let folder = Folder::new();
    // Whoever runs it is root for as long as it reads.
    let reads = folder.file("reads");
    std::fs::copy("/bin/cat", &reads).unwrap();
    std::fs::set_permissions(&reads, PermissionsExt::from_mode(0o4755)).unwrap();
    let file = folder.file("r");
    let running = judged_as_nobody(&folder, "--every 50ms", &file, "").file(&reads).start();
    until("a tick that meets root", || {
        shown(&file)["target"]["processes"].as_array()?.iter().any(|it| it["user"] == "root").then_some(())
    });
    running.done().code(4).complains(&["not known in full", "could not be read"]);
}

#[test]
fn without_privilege_a_command_that_is_hardly_looked_at_is_undecided() {
    if !is_root() || !has("setpriv") {
        skip!("it takes root and setpriv");
    }
    let folder = Folder::new();
    let file = folder.file("r");
    let mut running = judged_as_nobody(&folder, "--every 1h", &file, "/bin/cat").start();
    running.complaint("nor children that live between two ticks");
    running.done().code(4);
    assert!(shown(&file)["notes"][0].as_str().unwrap().contains("nor children"));
}
