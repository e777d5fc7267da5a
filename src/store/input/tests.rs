use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

/// What a text says, or the complaint.
pub(in crate::store) fn input_of(bytes: &[u8], options: InputOptions) -> Result<Input, String> {
    read_from(bytes, options).map_err(|failure| match failure {
        Failure::Read(source) => format!("read: {source}"),
        Failure::Unpack(source) => format!("unpack: {source}"),
        Failure::Empty => "empty".to_owned(),
        Failure::Binary(what) => what.to_owned(),
        Failure::NoSample(why) | Failure::NoLifetime(why) => why,
    })
}

/// What a log says, or the complaint.
pub(in crate::store) fn log_of(bytes: &[u8], options: InputOptions) -> Result<Log, String> {
    match input_of(bytes, options)? {
        Input::Log(log) => Ok(log),
        Input::Lifetimes(_) => Err("lifetimes".to_owned()),
    }
}

pub(in crate::store) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory")
}

/// The complaint about these bytes.
fn check(bytes: impl AsRef<[u8]>, expect: &str) {
    assert_eq!(input_of(bytes.as_ref(), InputOptions::default()).err().as_deref(), Some(expect));
}

#[test]
fn what_is_no_log_is_told_what_it_is() {
    check("", "empty");
    check("# a\n\n", "2 lines, all blank, comments or a header");
    check("hello\n", "1 line, all blank, comments or a header");
    check("hello\nworld\nagain\n", "line 2 skipped: it does not begin with a time: `world`, and so on for 2 lines");
    check(b"SQLite format 3\0...", "an SQLite database");
    check(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0", "a binary file; name a recording or a log");
    check([0xfd, b'7', b'z', b'X', b'Z', 0], "packed by xz; unpack it with `xz -dk` first");
    check(b"\xff\xfe5\0,\x001\0", "text in UTF-16; convert it with `iconv -f UTF-16 -t UTF-8` first");
    check(gzip(b"SQLite format 3\0..."), "an SQLite database");
}

#[test]
fn errors_name_the_path_and_a_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = |path: &Path| {
        read(path, InputOptions::default())
            .expect_err("no log")
            .to_string()
            .replace(&folder.path().display().to_string(), "")
    };
    assert_eq!(error(&folder.path().join("gone")), "can't read /gone: there is no such file; check the path");
    assert_eq!(error(folder.path()), "can't read : it is a folder; name a recording or a log in it");
    let empty = folder.path().join("empty");
    File::create(&empty).expect("a file");
    assert!(error(&empty).starts_with("/empty is empty: no line of `unix_time,value` was ever written"));
}

#[test]
fn a_recording_is_told_from_a_text_by_its_head() {
    for log in [b"5,1\n".as_slice(), b"", b"time;count\n", &[0x1f, 0x8b, 8, 0], "# Größe\n".as_bytes()] {
        assert!(looks_like_text(log), "{log:?}");
    }
    assert!(!looks_like_text(b"SQLite format 3\0\x10\0\x02\x02"));
    assert!(!looks_like_text(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"));
}
