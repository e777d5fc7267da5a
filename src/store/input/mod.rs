//! Text files that stand in for a recording: logs of `unix_time,value` and CSVs of lifetimes.
//!
//! A file is told by what it begins with, whatever its name: a header with `conn_id` is a CSV of lifetimes, other text is
//! a log. Either may be gzip in any number of members, and cut off; either may come through a pipe, so it is read once,
//! from its beginning to its end.

mod lines;
pub(super) mod moment;

pub(super) use lines::{Skipped, count_words};

use super::lifetimes::{self, Header, Lifetimes};
use super::log::{self, Log};
use flate2::read::MultiGzDecoder;
use lines::Broken;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// How a text is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputOptions {
    /// Subtracts the header line that `lsof | wc -l` counts, from every sample of a log: one less each, never below 0.
    pub lsof_header: bool,
}

/// What a text says.
#[derive(Debug)]
pub enum Input {
    /// One series.
    Log(Log),
    /// Connections, each from its opening to its closing.
    Lifetimes(Lifetimes),
}

/// Why nothing is to be had from a text.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Nothing is there.
    #[error("can't read {}: there is no such file; check the path", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A folder is there.
    #[error("can't read {}: it is a folder; name a recording or a log in it", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// It is not for us.
    #[error("can't read {}: permission denied; run this as its owner or copy it to where you may read it", path.display())]
    Denied {
        /// The file.
        path: PathBuf,
    },
    /// Reading failed.
    #[error("reading {} failed: {source}; is its disk or network share all right?", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is gzip by its first bytes but does not unpack.
    #[error("can't unpack {}: {source}; see what `gzip -t` says and fetch it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The codec's reason.
        source: io::Error,
    },
    /// Nothing is in it.
    #[error("{} is empty: no line of `unix_time,value` was ever written; does the script that appends to it still run?", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is no text.
    #[error("{} is not a log of `unix_time,value` but {what}", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// What it is instead, and what can be done with that.
        what: &'static str,
    },
    /// It is text of another kind.
    #[error("{} holds no line of `unix_time,value` as `1487279164,12`: {why}", path.display())]
    NoSample {
        /// The file.
        path: PathBuf,
        /// What its lines are instead.
        why: String,
    },
    /// It has the header of a CSV of lifetimes, and nothing that can be read by it.
    #[error("{} is no CSV of connections that can be read: {why}", path.display())]
    NoLifetime {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads the text at `path`. A log takes 16 bytes of memory a sample, and 24 more while one that is out of order is
/// sorted. A CSV of lifetimes takes memory for what is open at its end, and a bounded amount for all else.
///
/// # Errors
/// Where it can't be read, or no line of it is understood.
pub fn read(path: &Path, options: InputOptions) -> Result<Input, InputError> {
    let input = File::open(path).map_err(Failure::Read).and_then(|source| read_from(source, options));
    input.map_err(|failure| failure.of(path))
}

/// The same of a file that may be something else: `None` where it is empty, no text or can't be opened. Whoever takes it for
/// a recording then says what it is.
///
/// # Errors
/// As [`read`]'s, of what is a text.
pub fn read_if_text(path: &Path, options: InputOptions) -> Result<Option<Input>, InputError> {
    let Ok(mut source) = File::open(path) else { return Ok(None) };
    match read_head(&mut source) {
        Ok(head) if !head.is_empty() && looks_like_text(&head) => {
            read_on(head, source, options).map(Some).map_err(|failure| failure.of(path))
        }
        _ => Ok(None),
    }
}

/// True where a file that begins with `head` is to be read as a text: plain or gzip. A recording is SQLite, thus not.
fn looks_like_text(head: &[u8]) -> bool {
    head.starts_with(GZIP) || foreign(head).is_none()
}

const GZIP: &[u8] = &[0x1f, 0x8b];

/// What the file is judged by.
const HEAD_LENGTH: u64 = 4096;

/// [`InputError`] before the path is known.
#[derive(Debug)]
pub(super) enum Failure {
    Read(io::Error),
    Unpack(io::Error),
    Empty,
    Binary(&'static str),
    NoSample(String),
    NoLifetime(String),
}

impl Failure {
    fn of(self, path: &Path) -> InputError {
        let path = path.to_owned();
        match self {
            Failure::Read(source) => match source.kind() {
                ErrorKind::NotFound => InputError::Missing { path },
                ErrorKind::PermissionDenied => InputError::Denied { path },
                ErrorKind::IsADirectory => InputError::Folder { path },
                _ => InputError::Unreadable { path, source },
            },
            Failure::Unpack(source) => InputError::Damaged { path, source },
            Failure::Empty => InputError::Empty { path },
            Failure::Binary(what) => InputError::Binary { path, what },
            Failure::NoSample(why) => InputError::NoSample { path, why },
            Failure::NoLifetime(why) => InputError::NoLifetime { path, why },
        }
    }
}

pub(super) fn read_from(mut source: impl Read, options: InputOptions) -> Result<Input, Failure> {
    let head = read_head(&mut source).map_err(Failure::Read)?;
    read_on(head, source, options)
}

/// Reads what begins with `head`, the rest from `source`.
fn read_on(head: Vec<u8>, source: impl Read, options: InputOptions) -> Result<Input, Failure> {
    if !head.starts_with(GZIP) {
        let mut reader = Reader::of(&head, options)?;
        reader.read(&head, source).map_err(|broken| Failure::Read(broken.source))?;
        return reader.finish();
    }
    let mut content = MultiGzDecoder::new(io::Cursor::new(head).chain(source));
    let head = read_head(&mut content).map_err(Failure::Unpack)?;
    let mut reader = Reader::of(&head, options)?;
    match reader.read(&head, content) {
        Err(broken) if reader.is_empty() => return Err(Failure::Unpack(broken.source)),
        // What is being packed, or was cut off, is good up to there.
        Err(Broken { lines, source }) => {
            reader.note(format!("unpacking failed after line {lines} ({source}); what came before is read"));
        }
        Ok(()) => {}
    }
    reader.finish()
}

fn read_head(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_LENGTH as usize);
    source.take(HEAD_LENGTH).read_to_end(&mut head)?;
    Ok(head)
}

/// Whoever takes the lines in.
enum Reader {
    Log(log::Reader),
    Lifetimes(Box<lifetimes::Reader>),
}

impl Reader {
    /// The one for a text that begins with `head`.
    fn of(head: &[u8], options: InputOptions) -> Result<Self, Failure> {
        if head.is_empty() {
            return Err(Failure::Empty);
        }
        if let Some(what) = foreign(head) {
            return Err(Failure::Binary(what));
        }
        let text = String::from_utf8_lossy(without_mark(head));
        let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(match first.and_then(Header::read) {
            Some(header) => Reader::Lifetimes(Box::new(lifetimes::Reader::new(header.map_err(Failure::NoLifetime)?))),
            None => Reader::Log(log::Reader::new(options)),
        })
    }

    fn read(&mut self, head: &[u8], rest: impl Read) -> Result<(), Broken> {
        let source = without_mark(head).chain(rest);
        match self {
            Reader::Log(log) => lines::each(source, |number, line| log.add_line(number, line)),
            Reader::Lifetimes(lifetimes) => lines::each(source, |number, line| lifetimes.add_line(number, line)),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Reader::Log(log) => log.is_empty(),
            Reader::Lifetimes(lifetimes) => lifetimes.is_empty(),
        }
    }

    fn note(&mut self, note: String) {
        match self {
            Reader::Log(log) => log.notes.push(note),
            Reader::Lifetimes(lifetimes) => lifetimes.notes.push(note),
        }
    }

    fn finish(self) -> Result<Input, Failure> {
        match self {
            Reader::Log(log) => log.finish().map(Input::Log).map_err(Failure::NoSample),
            Reader::Lifetimes(lifetimes) => lifetimes.finish().map(Input::Lifetimes).map_err(Failure::NoLifetime),
        }
    }
}

/// Without the byte order mark that some editors put ahead of UTF-8.
fn without_mark(head: &[u8]) -> &[u8] {
    head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head)
}

/// What a file that begins so is, if it is no text, and what can be done.
fn foreign(head: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 7] = [
        (b"SQLite format 3\0", "an SQLite database"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "packed by xz; unpack it with `xz -dk` first"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "packed by zstd; unpack it with `zstd -dk` first"),
        (b"BZh", "packed by bzip2; unpack it with `bzip2 -dk` first"),
        (b"PK\x03\x04", "a zip archive; unpack it first"),
        (&[0xff, 0xfe], "text in UTF-16; convert it with `iconv -f UTF-16 -t UTF-8` first"),
        (&[0xfe, 0xff], "text in UTF-16; convert it with `iconv -f UTF-16 -t UTF-8` first"),
    ];
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(what);
    }
    // Nearly all are plain, and counting is what a compiler makes quick.
    if head.iter().filter(|byte| !matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')).count() == 0 {
        return None;
    }
    // A crash may leave zeros in a log, and a comment may be in Latin-1: some bytes that are no text are borne. Of a
    // binary file's bytes far more than a third are none.
    let control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    let strange: usize =
        head.utf8_chunks().map(|chunk| chunk.invalid().len() + chunk.valid().bytes().filter(control).count()).sum();
    (strange * 3 > head.len()).then_some("a binary file; name a recording or a log")
}

#[cfg(test)]
pub(super) mod tests;
