//! A client in Rust: sessions.rs PORT. A session that has expired is put aside with its connection, and never dropped.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

struct Sessions {
    port: u16,
    expired: Vec<TcpStream>,
}

impl Sessions {
    fn renew(&mut self) {
        let mut stream = open_session(self.port);
        stream.write_all(b"renew\n").unwrap(); // last use: renew
        stream.read_exact(&mut [0; 3]).unwrap();
        println!("leaked {} {}", std::process::id(), stream.as_raw_fd());
        self.expired.push(stream);
    }
}

/// Small enough that the compiler makes it part of its caller.
#[inline(always)]
fn open_session(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).unwrap() // opener: open_session
}

fn check_health(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"health\n").unwrap();
    stream.read_exact(&mut [0; 3]).unwrap();
}

fn main() {
    let port = std::env::args().nth(1).unwrap().parse().unwrap();
    println!("{}", std::process::id());
    let mut sessions = Sessions { port, expired: Vec::new() };
    for round in 0_u64.. {
        if round % 3 == 1 {
            check_health(port);
        }
        if round % 5 == 0 {
            sessions.renew();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
