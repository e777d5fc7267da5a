//! Whom the leakers talk to: answers whatever is said, never hangs up first.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

/// Answers on loopback until the tests end; tells the port.
pub(super) fn on_loopback() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    thread::spawn(move || listener.incoming().flatten().for_each(answer));
    port
}

/// Answers at a path until the tests end.
pub(super) fn at(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(answer));
}

/// Until the other side has hung up.
fn answer(mut peer: impl Read + Write + Send + 'static) {
    thread::spawn(move || {
        let mut asked = [0; 512];
        while peer.read(&mut asked).is_ok_and(|read| read > 0) && peer.write_all(b"ok\n").is_ok() {}
    });
}
