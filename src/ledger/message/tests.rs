//! Goal: what real clients wrote comes out as a person would say it. Method: their bytes, taken down on the way to real servers
//! (`captured`), and bytes by hand for what no client here says.

use super::*;
use captured::*;
use proptest::prelude::*;

mod captured;

/// The writes one second apart.
fn writes<'a>(captured: &[(u64, &'a [u8])]) -> Vec<Written<'a>> {
    let write = |(at, (length, bytes)): (usize, &(u64, &'a [u8]))| Written {
        at: Timestamp(at as i64 * 1_000_000),
        length: *length,
        bytes,
        encrypted: false,
    };
    captured.iter().enumerate().map(write).collect()
}

/// Writes that are known whole.
fn whole<'a>(bytes: &[&'a [u8]]) -> Vec<(u64, &'a [u8])> {
    bytes.iter().map(|bytes| (bytes.len() as u64, *bytes)).collect()
}

/// Whether a write prepares a named statement, as the kernel's side tells it; in PostgreSQL's it needn't be the first message.
fn is_prepare(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [kind, a, b, c, d, body @ ..] = rest {
        if *kind == b'P' && body.first().is_some_and(|first| *first != 0) {
            return true;
        }
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        rest = rest.get(size.saturating_add(1).max(5)..).unwrap_or_default();
    }
    bytes.get(4) == Some(&0x16)
}

/// What is told of all of it, `-` before what says nothing of the purpose.
fn told(captured: &[(u64, &[u8])], last: usize, show_literals: bool) -> Vec<String> {
    let prepared: Vec<Vec<u8>> =
        captured.iter().filter(|(_, bytes)| is_prepare(bytes)).map(|(_, bytes)| bytes.to_vec()).collect();
    let written = writes(&captured[captured.len() - last.min(captured.len())..]);
    let prepared = Prepared { writes: &prepared, is_whole: true };
    let messages = decode(&written, prepared, None, show_literals);
    messages.iter().map(|it| format!("{}{}", if it.useful { "" } else { "- " }, it.text)).collect()
}

fn all(captured: &[(u64, &[u8])]) -> Vec<String> {
    told(captured, usize::MAX, false)
}

const LOOK: &str = "SELECT relname FROM pg_class WHERE relname = $1 AND relpages > $2";

#[test]
fn postgres_by_simple_statements() {
    let said = [
        "- (start of the session: user app, database postgres)",
        "- BEGIN",
        "SELECT relname FROM pg_class WHERE relname = ? AND relpages > ?",
        "- COMMIT",
        "- (end of the session)",
    ];
    assert_eq!(all(&PSYCOPG2), said);
    let shown = told(&PSYCOPG2, 3, true);
    assert_eq!(shown[0], "SELECT relname FROM pg_class WHERE relname = 'o''brien' AND relpages > 7");
}

#[test]
fn postgres_by_statements_prepared_long_ago() {
    let end = ["- COMMIT", "- (end of the session)"];
    assert_eq!(told(&PSYCOPG3, 4, false), [&[LOOK, LOOK], &end[..]].concat());
    let pgbench = "SELECT relname FROM pg_class WHERE relpages > ? AND relname = ?;";
    assert_eq!(told(&PGBENCH, 2, false), [pgbench, end[1]]);
    let kind = "SELECT oid FROM pg_class WHERE relkind = $1";
    assert_eq!(told(&PGJDBC, 3, false), ["- BEGIN", kind, "- COMMIT", end[1]]);
    let go = LOOK.replace("$2", "?");
    assert_eq!(told(&LIB_PQ, 4, false), [&go, &go, end[0], end[1]]);
    assert_eq!(told(&PG8000, 5, false)[..2], ["- (a statement that was sent earlier)", "- commit"]);
    assert_eq!(
        all(&ASYNCPG),
        [
            "- (start of the session: user app, database postgres)",
            LOOK,
            LOOK,
            LOOK,
            "- BEGIN;",
            "SELECT pg_sleep(?)",
            "- WITH RECURSIVE typeinfo_tree( oid, ns, name, kind, basetype, elemtype, elemdelim, range_subtype, attrtypoids, \
             attrnames, depth) AS ( SELECT ti.oid, ti.ns, ti.name, ti.kind, ti.basetype, ti.elemtype, ti.elemdelim, \
             ti.range_subtype, ti.attrtypoids, ti.attrnames, ? FROM ( SELECT t.oid AS oid, ns.nspname AS ns, t.typname AS n…",
            "- SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
            "- (end of the session)",
        ]
    );
}

#[test]
fn postgres_beyond_statements() {
    let by_hand = whole(&[
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"p\0\0\0\x0bgeheim\0",
        b"d\0\0\0\x0c1\tgeheim",
        b"c\0\0\0\x04",
        b"S\0\0\0\x04",
        b"Q\0\0\0\x29BEGIN; SELECT * FROM t WHERE a = 'x'\0",
    ]);
    assert_eq!(
        all(&by_hand),
        [
            "- (request for TLS)",
            "- (password)",
            "- (COPY data)",
            "- (end of COPY data)",
            "- (sync)",
            "BEGIN; SELECT * FROM t WHERE a = ?",
        ]
    );
}

#[test]
fn a_message_that_takes_several_writes_is_told_once() {
    let long = [
        (6_000, &b"Q\0\0\x20\x08UPDATE notes SET text = 'geheim"[..]),
        (2_209, b"geheim and secret, 17' WHERE id = 4\0"),
        (12, b"Q\0\0\0\x0bCOMMIT\0"),
    ];
    assert_eq!(all(&long), ["UPDATE notes SET text = ?…", "- (2209 bytes of data)", "- COMMIT"]);
}

#[test]
fn mysql_by_statements() {
    assert_eq!(
        all(&PYMYSQL),
        [
            "- (start of the session: user app, database information_schema)",
            "- SET NAMES utf8mb4",
            "- SET AUTOCOMMIT = ?",
            "SELECT host FROM processlist WHERE user=? AND ?<?",
            "- COMMIT",
            "- PING",
            "- USE information_schema",
            "- (end of the session)",
        ]
    );
}

#[test]
fn mysql_by_numbers_of_prepared_statements() {
    let first = "SELECT host FROM processlist WHERE user=? AND ?<?";
    let second = "SELECT db FROM processlist WHERE user=?";
    let reset = "- (reset of a statement)";
    let said = all(&CONNECTOR);
    assert_eq!(said[4..9], [first, reset, first, reset, first]);
    assert_eq!(said[10..], [second, reset, second, "- COMMIT", "- (end of the session)"]);

    // Where not all that was prepared was seen, a number says nothing.
    let prepared = [CONNECTOR[10].1.to_vec()];
    let messages = decode(&writes(&CONNECTOR[12..13]), Prepared { writes: &prepared, is_whole: false }, None, false);
    assert_eq!((&*messages[0].text, messages[0].useful), ("(statement 2, which was sent earlier)", false));
}

#[test]
fn redis_by_commands() {
    let info = "- CLIENT SETINFO ?";
    assert_eq!(
        all(&REDIS_PY),
        [
            info,
            info,
            "SET cart:7 ?",
            "GET cart:7",
            "MGET a b",
            "HSET h ?",
            "- MULTI",
            "SET k1 ?",
            "INCRBY n ?",
            "- EXEC",
            "WATCH k1",
            "- UNWATCH",
            info,
            info,
            "- PING",
            "EVAL ? 1 key ?",
            "PUBLISH ch ?",
        ]
    );
    assert_eq!(all(&REDIS_PY_AUTH), ["- HELLO ?", "- SELECT 3", "GET x"]);
    // Also where literals were asked for, the password isn't shown.
    assert_eq!(told(&REDIS_PY_AUTH, 3, true)[0], "- HELLO ?");
    assert_eq!(told(&REDIS_PY[2..3], 1, true), ["SET cart:7 secret EX 60"]);
    let cut = [(20_045, &b"*3\r\n$3\r\nSET\r\n$4\r\npage\r\n$20000\r\n<html>"[..]), (9, b"</html>\r\n")];
    assert_eq!(all(&cut), ["SET page ?", "- (9 bytes of data)"]);
    let streams = b"*8\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n$1\r\ng\r\n$1\r\nc\r\n$7\r\nSTREAMS\r\n$4\r\njobs\r\n$4\r\nmail\r\n$1\r\n>\r\n";
    assert_eq!(all(&whole(&[streams])), ["XREADGROUP ? STREAMS jobs mail ?"]);
}

#[test]
fn http_by_requests() {
    let get = b"GET /api/users?id=7&token=abc&q HTTP/1.1\r\nAuthorization: Bearer xyz\r\nCookie: s=1\r\nHost: api.example.com\r\n\r\n";
    let writes = whole(&[
        get,
        b"POST http://u:pw@h/x HTTP/1.0\r\n\r\n",
        b"{\"password\": \"x\"}",
        b"HTTP/1.1 200 OK\r\nServer: x\r\n",
    ]);
    let masked = [
        "GET /api/users?id=?&token=?&? HTTP/1.1 Host: api.example.com",
        "POST http://?@h/x HTTP/1.0",
        "- (17 bytes of data)",
        "- HTTP/1.1 200 OK",
    ];
    assert_eq!(all(&writes), masked);
    assert_eq!(told(&writes, 4, true)[0], "GET /api/users?id=7&token=?&q HTTP/1.1 Host: api.example.com");
    let newer = whole(&[
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x02\0\0\0\0",
        b"\0\0\x04\x01\x05\0\0\0\x01\x82\x86\x84\x41\0\0\x02\0\x01\0\0\0\x01hi",
    ]);
    assert_eq!(all(&newer), ["- HTTP/2", "- HTTP/2 SETTINGS", "- HTTP/2 HEADERS, stream 1", "- HTTP/2 DATA, stream 1"]);
}

#[test]
fn anything_else_as_text_or_bytes() {
    let modbus = whole(&[b"\0\x01\0\0\0\x06\x01\x03\0\0\0\x0a"]);
    assert_eq!(all(&modbus), ["00 01 00 00 00 06 01 03 00 00 00 0a (12 bytes)"]);
    assert_eq!(all(&whole(&[b"MAIL FROM:<anna7@example.com>\r\n"])), ["MAIL FROM:<?@example.com>"]);
    assert_eq!(all(&whole(&[b"PASS geheim\r\n"])), ["PASS ?"]);
    assert_eq!(all(&whole(&[b"a1 LOGIN anna geheim\r\n"])), ["? LOGIN ?"]);
    assert_eq!(all(&whole(&[b"\x01\x02PLAIN\0anna\0geheim\0"])), ["01 02 ? 00 ? 00 ? 00 (20 bytes)"]);
    assert_eq!(all(&[(0, b"")]), ["- (0 bytes)"]);
}

#[test]
fn what_is_encrypted_is_said_to_be() {
    let hello = [(517, &b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..])];
    assert_eq!(all(&hello), ["- (encrypted, 517 bytes)"]);
    let write = Written { at: Timestamp(0), length: 80, bytes: b"Q\0\0\0\x0bCOMMIT\0", encrypted: true };
    assert_eq!(&*decode(&[write], Prepared::default(), None, false)[0].text, "(encrypted, 80 bytes)");
}

/// The last message that says what the connection is for.
fn last_useful(messages: &[Message]) -> Option<&Message> {
    messages.iter().rfind(|message| message.useful)
}

#[test]
fn what_matters_came_before_the_commit() {
    let messages = decode(&writes(&PSYCOPG2), Prepared::default(), None, false);
    let text = last_useful(&messages).map(|message| &*message.text);
    assert_eq!(text, Some("SELECT relname FROM pg_class WHERE relname = ? AND relpages > ?"));
    assert_eq!(last_useful(&decode(&writes(&PSYCOPG2[3..]), Prepared::default(), None, false)), None);
}

proptest! {
    /// No bytes are too strange, and nothing is told without end.
    #[test]
    fn any_bytes_are_told_of(bytes in proptest::collection::vec(any::<u8>(), 0..512), more in 0..2_000_u64, port in any::<u16>()) {
        let written = [Written { at: Timestamp(0), length: bytes.len() as u64 + more, bytes: &bytes, encrypted: false }];
        let peer = Address::parse(&format!("127.0.0.1:{port}"));
        let prepared = [bytes.clone()];
        let messages = decode(&written, Prepared { writes: &prepared, is_whole: true }, Some(&peer), false);
        prop_assert!((1..=SAID_MAX + 1).contains(&messages.len()));
        prop_assert!(messages.iter().all(|message| message.text.chars().count() < 2_000));
    }

    /// However a client's writes are cut, what they say of it is the same or less, and no literal comes out.
    #[test]
    fn a_cut_shows_no_literal(keep in 0..80_usize) {
        for captured in [&PSYCOPG2[..], &PSYCOPG3, &ASYNCPG, &PYMYSQL, &CONNECTOR, &REDIS_PY_AUTH] {
            let cut: Vec<(u64, &[u8])> = captured.iter().map(|(length, bytes)| (*length, &bytes[..bytes.len().min(keep)])).collect();
            for line in all(&cut) {
                prop_assert!(!line.contains("brien") && !line.contains("geheim"), "{line}");
            }
        }
    }
}
