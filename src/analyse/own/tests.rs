//! Goal: of stacks as they are in the wild, the frame is named that a person would look for. Method: stacks taken from running
//! programs, in words; a line is `function | file:line | module`.

use super::*;

fn frame(line: &str) -> Frame {
    let mut parts = line.split(" | ").map(|part| Some(part.trim()).filter(|part| !part.is_empty() && *part != "-"));
    let mut next = || parts.next().flatten();
    let (function, place, module) = (next(), next(), next());
    let (file, number) = match place.and_then(|place| place.rsplit_once(':')) {
        Some((file, number)) if number.parse::<u32>().is_ok() => (Some(file), number.parse().ok()),
        _ => (place, None),
    };
    let own = |text: Option<&str>| text.map(Box::from);
    Frame { function: own(function), file: own(file), line: number, module: own(module), ..Frame::default() }
}

fn stack(lines: &str) -> Stack {
    Stack { frames: lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(frame).collect(), truncated: None }
}

/// The label, and the functions that are marked.
fn judged(rules: &Rules, lines: &str) -> (String, Vec<String>) {
    let mut stack = stack(lines);
    rules.mark(&mut stack);
    let own = stack.frames.iter().filter(|frame| frame.own);
    (rules.label(&stack), own.filter_map(|frame| frame.function.as_deref().map(str::to_owned)).collect())
}

#[track_caller]
fn check(lines: &str, label: &str, own: &[&str]) {
    let (named, marked) = judged(&Rules::default(), lines);
    assert_eq!((named.as_str(), marked), (label, own.iter().map(ToString::to_string).collect()));
}

#[test]
fn the_rules_that_come_with_the_program_can_be_read() {
    let rules = read(RULES).unwrap();
    assert!(rules.len() > 60, "{}", rules.len());
}

#[test]
fn python_by_its_files() {
    check(
        "__GI___socket | - | /usr/lib/x86_64-linux-gnu/libc.so.6
         sock_initobj | ./Modules/socketmodule.c:5460 | /home/a/.pyenv/versions/3.11.7/bin/python3.11
         socket.__init__ | /home/a/.pyenv/versions/3.11.7/lib/python3.11/socket.py:232 | /home/a/.pyenv/versions/3.11.7/bin/python3.11
         BaseEventLoop.create_connection | /home/a/.pyenv/versions/3.11.7/lib/python3.11/asyncio/base_events.py:1069 | /home/a/.pyenv/versions/3.11.7/bin/python3.11
         Connection._connect | /srv/venv/lib/python3.11/site-packages/redis/asyncio/connection.py:640 | /home/a/.pyenv/versions/3.11.7/bin/python3.11
         Pipeline.watch | /srv/venv/lib/python3.11/site-packages/redis/asyncio/client.py:1405 | /home/a/.pyenv/versions/3.11.7/bin/python3.11
         reserve | /srv/checkout.py:12 | /home/a/.pyenv/versions/3.11.7/bin/python3.11
         Handle._run | /home/a/.pyenv/versions/3.11.7/lib/python3.11/asyncio/events.py:80 | /home/a/.pyenv/versions/3.11.7/bin/python3.11
         <module> | /srv/checkout.py:57 | /home/a/.pyenv/versions/3.11.7/bin/python3.11
         _PyEval_EvalFrameDefault | - | /home/a/.pyenv/versions/3.11.7/bin/python3.11",
        "reserve (checkout.py:12)",
        &["reserve", "<module>"],
    );
    // A pool's own thread: nobody's code, but the pool is better to know than libc.
    check(
        "connect | - | /usr/lib/x86_64-linux-gnu/libc.so.6
         PQconnectPoll | - | /srv/venv/lib/python3.12/site-packages/psycopg2_binary.libs/libpq-0e7a2d4c.so.5.16
         connect | /usr/lib/python3/dist-packages/psycopg2/__init__.py:122 | /usr/bin/python3.12
         ConnectionPool._add | /srv/venv/lib/python3.12/site-packages/psycopg_pool/pool.py:601 | /usr/bin/python3.12
         Thread.run | /usr/lib/python3.12/threading.py:1012 | /usr/bin/python3.12",
        "PQconnectPoll (libpq-0e7a2d4c.so.5.16)",
        &[],
    );
    // Scripts without an ending; code from the command line; what a data class makes.
    let by = " | /usr/bin/python3.11";
    check(&format!("work | /srv/jobs/nightly:9{by}"), "work (nightly:9)", &["work"]);
    check(&format!("<module> | <string>:1{by}"), "<module> (<string>:1)", &["<module>"]);
    check(
        &format!("__init__ | <string>:3{by}\nload | /srv/app/__init__.py:4{by}"),
        "load (app/__init__.py:4)",
        &["load"],
    );
    check(&format!("<module> | /usr/bin/fail2ban-server:34{by}"), "<module> (fail2ban-server:34)", &["<module>"]);
    check(
        &format!("_call | <frozen importlib._bootstrap>:241{by}\nmain | /usr/bin/x:1{by}\nown | /app/x.py:1{by}"),
        "own (x.py:1)",
        &["own"],
    );
}

#[test]
fn go_by_its_packages() {
    let lib = "/usr/share/gocode/src/github.com/lib/pq";
    check(
        &format!(
            "runtime/internal/syscall.Syscall6 | /usr/lib/go-1.19/src/runtime/internal/syscall/asm_linux_amd64.s:36 | /srv/rowcount
             syscall.socket | /usr/lib/go-1.19/src/syscall/zsyscall_linux_amd64.go:1459 | /srv/rowcount
             net.(*Dialer).DialContext | net/dial.go:428 | /srv/rowcount
             github.com/lib/pq.(*Connector).open | {lib}/conn.go:311 | /srv/rowcount
             database/sql.(*DB).conn | /usr/lib/go-1.19/src/database/sql/sql.go:1415 | /srv/rowcount
             database/sql.(*DB).QueryRow | /usr/lib/go-1.19/src/database/sql/sql.go:1791 | /srv/rowcount
             github.com/acme/rows/internal/db.Count | /home/a/rows/internal/db/db.go:20 | /srv/rowcount
             main.count | /home/a/rows/main.go:31 | /srv/rowcount
             runtime.goexit | /usr/lib/go-1.19/src/runtime/asm_amd64.s:1594 | /srv/rowcount"
        ),
        "github.com/acme/rows/internal/db.Count (db.go:20)",
        &["github.com/acme/rows/internal/db.Count", "main.count"],
    );
    check(
        "net/http.(*Transport).dialConn | /usr/local/go/src/net/http/transport.go:1800 | /app/api
         github.com/go-redis/redis/v8.(*Client).Get | github.com/go-redis/redis/v8@v8.11.5/redis.go:1 | /app/api
         golang.org/x/net/http2.f | /home/a/go/pkg/mod/golang.org/x/net@v0.17.0/http2/a.go:2 | /app/api
         example.com/api/vendor/github.com/lib/pq.Open | /src/vendor/github.com/lib/pq/conn.go:5 | /app/api",
        "github.com/go-redis/redis/v8.(*Client).Get (redis.go:1)",
        &[],
    );
}

#[test]
fn rust_by_files_and_paths() {
    check(
        "__connect | - | /usr/lib/x86_64-linux-gnu/libc.so.6
         std::sys::net::connect | /rustc/59807616e1/library/std/src/sys/net.rs:9 | /srv/app
         <std::sync::mutex::MutexGuard<T> as core::ops::Drop>::drop | - | /srv/app
         tokio::net::tcp::TcpStream::connect | /home/a/.cargo/registry/src/index.crates.io-6f17d22bba15001f/tokio-1.40.0/src/net/tcp/stream.rs:115 | /srv/app
         sqlx_core::pool::inner::PoolInner<DB>::connect | /usr/local/cargo/registry/src/x/sqlx-core-0.8/src/pool/inner.rs:3 | /srv/app
         widget::poll | /home/a/.cargo/git/checkouts/widget-1/ab/src/lib.rs:4 | /srv/app
         <app::pool::Guard as core::ops::drop::Drop>::drop | src/pool.rs:88 | /srv/app
         core::ops::function::FnOnce::call_once | /rustc/59807616e1/library/core/src/ops/function.rs:250 | /srv/app
         app::main | src/main.rs:12 | /srv/app
         __libc_start_main | - | /usr/lib/x86_64-linux-gnu/libc.so.6
         _start | - | /srv/app",
        "<app::pool::Guard as core::ops::drop::Drop>::drop (pool.rs:88)",
        &["<app::pool::Guard as core::ops::drop::Drop>::drop", "app::main"],
    );
    // Stripped of its lines.
    check(
        "core::ops::function::FnOnce::call_once | - | /srv/app
         tokio::runtime::task::raw::poll | - | /srv/app
         <app::Job as app::Work>::run | - | /srv/app",
        "<app::Job as app::Work>::run (app)",
        &["<app::Job as app::Work>::run"],
    );
}

#[test]
fn c_and_cpp_by_where_they_lie() {
    check(
        "__GI___socket | ../sysdeps/unix/syscall-template.S:120 | /usr/lib/x86_64-linux-gnu/libc.so.6
         _modbus_tcp_connect | - | /usr/lib/x86_64-linux-gnu/libmodbus.so.5.1.0
         reconnect | /home/a/poller.c:41 | /home/a/poller
         main | /home/a/poller.c:90 | /home/a/poller
         __libc_start_call_main | ../sysdeps/nptl/libc_start_call_main.h:58 | /usr/lib/x86_64-linux-gnu/libc.so.6
         _start | - | /home/a/poller",
        "reconnect (poller.c:41)",
        &["reconnect", "main"],
    );
    check(
        "std::function<void ()>::operator()() const | /usr/include/c++/12/bits/std_function.h:591 | /opt/app/bin/app
         pqxx::connection::connection | - | /opt/app/bin/app
         - | - | /opt/app/bin/app
         app::Session::open() | - | /opt/app/lib/libcore.so
         clone3 | - | /opt/app/bin/app",
        "app::Session::open() (libcore.so)",
        &["app::Session::open()"],
    );
}

#[test]
fn a_packaged_program_is_its_own() {
    let nginx = "connect | - | /usr/lib/x86_64-linux-gnu/libc.so.6
         ngx_event_connect_peer | src/event/ngx_event_connect.c:180 | /usr/sbin/nginx
         main | - | /usr/sbin/nginx";
    check(nginx, "ngx_event_connect_peer (ngx_event_connect.c:180)", &["ngx_event_connect_peer", "main"]);
    // Code of one's own in a packaged program: its frames are not.
    check(
        &format!("my_handler | /home/a/module.c:7 | /home/a/ngx_mine.so\n{nginx}"),
        "my_handler (module.c:7)",
        &["my_handler"],
    );
    let postgres = "StreamConnection | - | /usr/lib/postgresql/15/bin/postgres";
    check(postgres, "StreamConnection (postgres)", &["StreamConnection"]);
}

#[test]
fn node_and_java() {
    check(
        "connect | node:net:1064 | /usr/bin/node
         Socket.connect | /srv/app/node_modules/pg/lib/connection.js:44 | /usr/bin/node
         checkLinks | file:///srv/app/linkcheck.mjs:18 | /usr/bin/node
         node::Start(int, char**) | - | /usr/bin/node",
        "checkLinks (linkcheck.mjs:18)",
        &["checkLinks"],
    );
    check(
        "java.net.Socket.connect | Socket.java:751 | -
         org.postgresql.core.PGStream.<init> | PGStream.java:114 | -
         com.zaxxer.hikari.pool.HikariPool.getConnection | HikariPool.java:162 | -
         com.acme.report.ReportService.export | ReportService.java:88 | -
         java.lang.Thread.run | Thread.java:840 | -
         JavaMain | - | /usr/lib/jvm/java-17/lib/libjli.so",
        "com.acme.report.ReportService.export (ReportService.java:88)",
        &["com.acme.report.ReportService.export"],
    );
}

#[test]
fn a_persons_rules_go_first() {
    let lines = "fetch | /srv/app/shared/http.py:5 | /usr/bin/python3.11
        report | /srv/app/report.py:9 | /usr/bin/python3.11";
    let rules = Rules::parse("# ours\n\nlibrary file /srv/app/shared/** # common code\n").unwrap();
    assert_eq!(judged(&rules, lines), ("report (report.py:9)".to_owned(), vec!["report".to_owned()]));
    check(lines, "fetch (http.py:5)", &["fetch", "report"]);
}

#[test]
fn a_line_that_is_no_rule_is_told() {
    for (text, line, reason) in [
        ("own file x\nmine file y", 2, "`mine` is none of own, program, library, system"),
        ("own", 1, "it says of whom, not of what"),
        ("own file", 1, "`file` has no pattern after it"),
        ("own path /x", 1, "`path` is none of file, module, function"),
        ("own file \"x", 1, "a quote isn't closed"),
        ("own file {a,b", 1, "`{` isn't closed in `{a,b`"),
    ] {
        let error = Rules::parse(text).unwrap_err();
        assert_eq!((error.line, error.reason.as_str()), (line, reason));
    }
}

#[test]
fn where_nothing_is_known_nothing_is_named() {
    let rules = Rules::default();
    assert_eq!(rules.label(&Stack::default()), "an unknown place");
    assert_eq!(judged(&rules, "- | - | /srv/app").0, "an unknown place in app");
    check("epoll_wait | - | /usr/lib/libc.so.6", "epoll_wait (libc.so.6)", &[]);
}
