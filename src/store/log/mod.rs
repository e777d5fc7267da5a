//! Logs of `unix_time,value`, the recipe's own format: what strangers' scripts wrote years ago.
//!
//! A line is `time,value`, forgivingly: the forms of the time are those of `moment`, separators and numbers those of
//! `line`. Blank lines, `#` comments and a header are passed over. A line that isn't understood is skipped, counted and
//! told with its number. The whole may be gzip in any number of members, and cut off.
//!
//! [`Log::points`] holds only what was measured, in order of time, each time once: a hole is a [`Gap`] and never a `NaN`
//! among the points; who draws them breaks the line at each gap.

mod line;
mod moment;
mod restart;
mod timeline;

use crate::model::{Event, Gap, Points, Timestamp};
use flate2::read::MultiGzDecoder;
use line::Sample;
use moment::Form;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use timeline::StepBack;

/// How a log is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Subtracts the header line that `lsof | wc -l` counts: one less each, never below 0.
    pub lsof_header: bool,
}

/// What a log says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// The samples, in order of time, each time once.
    pub points: Points,
    /// The holes between them.
    pub gaps: Vec<Gap>,
    /// Restarts that the values show.
    pub events: Vec<Event>,
    /// What was skipped, assumed or put right: one sentence each.
    pub notes: Vec<String>,
    /// The usual time between two samples, in seconds; `None` where there is but one.
    pub interval_seconds: Option<f64>,
}

/// Why there is no log to be had.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
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
}

/// Reads the log at `path`. Takes 16 bytes of memory a sample, and 24 more while a log that is out of order is sorted.
///
/// # Errors
/// Where it can't be read, or no line of it is understood.
pub fn read(path: &Path, options: LogOptions) -> Result<Log, LogError> {
    let at = || path.to_owned();
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::NotFound => LogError::Missing { path: at() },
        ErrorKind::PermissionDenied => LogError::Denied { path: at() },
        ErrorKind::IsADirectory => LogError::Folder { path: at() },
        _ => LogError::Unreadable { path: at(), source },
    };
    read_from(File::open(path).map_err(failed)?, options).map_err(|failure| match failure {
        Failure::Read(source) => failed(source),
        Failure::Unpack(source) => LogError::Damaged { path: at(), source },
        Failure::Empty => LogError::Empty { path: at() },
        Failure::Binary(what) => LogError::Binary { path: at(), what },
        Failure::NoSample(why) => LogError::NoSample { path: at(), why },
    })
}

/// True where a file that begins with `head` is to be read as a log: text or gzip. A recording is SQLite, thus not.
/// A few hundred bytes suffice.
pub fn looks_like_log(head: &[u8]) -> bool {
    head.starts_with(GZIP) || foreign(head).is_none()
}

const GZIP: &[u8] = &[0x1f, 0x8b];

/// What the file is judged by.
const HEAD_LENGTH: u64 = 4096;

/// A longer line is none that somebody's script wrote as a sample.
const LINE_LENGTH_MAX: usize = 64 * 1024;

const BUFFER_LENGTH: usize = 4 * LINE_LENGTH_MAX;

/// A sample this far in time from both its neighbours, which are within a day of each other, comes from a damaged line:
/// digits are missing, or those of two lines ran together. Kept, it would stretch the log over centuries.
const STRAY_SECONDS: f64 = 30.0 * 86_400.0;

/// Skipped lines that are told one by one.
const SKIPPED_TOLD_MAX: u64 = 10;

/// [`LogError`] before the path is known.
enum Failure {
    Read(io::Error),
    Unpack(io::Error),
    Empty,
    Binary(&'static str),
    NoSample(String),
}

fn read_from(mut source: impl Read, options: LogOptions) -> Result<Log, Failure> {
    let head = read_head(&mut source).map_err(Failure::Read)?;
    let packed = head.starts_with(GZIP);
    let source = io::Cursor::new(head).chain(source);
    let mut reader = Reader::default();
    if packed {
        let mut content = MultiGzDecoder::new(source);
        let unpacked = read_head(&mut content).map_err(Failure::Unpack)?;
        match reader.read(&unpacked, content) {
            Ok(()) => {}
            Err(Failure::Read(source)) if reader.points.is_empty() => return Err(Failure::Unpack(source)),
            // A log that is being packed, or was cut off, is good up to there.
            Err(Failure::Read(source)) => {
                reader
                    .notes
                    .push(format!("unpacking failed after line {} ({source}); what came before is read", reader.lines));
            }
            Err(other) => return Err(other),
        }
    } else {
        let (head, rest) = source.into_inner();
        reader.read(head.get_ref(), rest)?;
    }
    reader.finish(options)
}

fn read_head(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_LENGTH as usize);
    source.take(HEAD_LENGTH).read_to_end(&mut head)?;
    Ok(head)
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
    // A crash may leave zeros in a log, and a comment may be in Latin-1: some bytes that are no text are borne. Of a
    // binary file's bytes far more than a third are none.
    let control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    let strange: usize =
        head.utf8_chunks().map(|chunk| chunk.invalid().len() + chunk.valid().bytes().filter(control).count()).sum();
    (strange * 3 > head.len()).then_some("a binary file; name a recording or a log")
}

/// The state of the fold over the lines.
#[derive(Default)]
struct Reader {
    points: Points,
    steps_back: Vec<StepBack>,
    notes: Vec<String>,
    lines: u64,
    /// The line of the last sample.
    sample_line: u64,
    skipped: u64,
    /// The header, so that it is known again where logs were joined.
    header: Option<String>,
    more_columns: bool,
    forms: Vec<Form>,
}

impl Reader {
    fn read(&mut self, head: &[u8], rest: impl Read) -> Result<(), Failure> {
        if head.is_empty() {
            return Err(Failure::Empty);
        }
        if let Some(what) = foreign(head) {
            return Err(Failure::Binary(what));
        }
        let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
        each_line(head.chain(rest), |line| self.add_line(line)).map_err(Failure::Read)
    }

    /// Takes a line, `None` where it was too long to be held.
    fn add_line(&mut self, line: Option<&[u8]>) {
        self.lines += 1;
        let Some(line) = line else { return self.skip(self.lines, "", "it is longer than 64 KiB") };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some((at, value)) = line::read_plain(line) {
            return self.add_sample(at, value);
        }
        let line = String::from_utf8_lossy(line);
        // A crash may leave zeros ahead of the next line.
        let line = line.trim_matches(|edge: char| edge.is_whitespace() || edge == '\0');
        if line.is_empty() || line.starts_with('#') || self.header.as_deref() == Some(line) {
            return;
        }
        match line::read(line) {
            Ok(sample) => self.add_forgiven(&sample),
            Err(_) if self.points.is_empty() && self.header.is_none() && is_header(line) => {
                self.header = Some(line.to_owned());
            }
            Err(reason) => self.skip(self.lines, line, reason),
        }
    }

    fn add_forgiven(&mut self, sample: &Sample) {
        self.more_columns |= sample.more;
        if !self.forms.contains(&sample.form) {
            self.forms.push(sample.form);
        }
        self.add_sample(sample.at, sample.value);
    }

    fn add_sample(&mut self, at: Timestamp, value: f64) {
        self.drop_stray(at);
        if self.points.times.last().is_some_and(|last| at < *last) {
            self.steps_back.push(StepBack { index: self.points.len(), line: self.lines });
        }
        self.points.push(at, value);
        self.sample_line = self.lines;
    }

    /// Drops the last sample where the one before it and the next, at `at`, show it to be a stray.
    fn drop_stray(&mut self, at: Timestamp) {
        let [.., before, last] = self.points.times[..] else { return };
        let apart = |one: Timestamp, other: Timestamp| one.seconds_since(other).abs();
        if apart(last, at) < STRAY_SECONDS || apart(last, before) < STRAY_SECONDS || apart(before, at) > 86_400.0 {
            return;
        }
        self.points.times.pop();
        self.points.values.pop();
        self.steps_back.pop_if(|step| step.index == self.points.len());
        self.skip(self.sample_line, "", "its time is more than 30 days off from those around it");
    }

    fn skip(&mut self, number: u64, line: &str, reason: &str) {
        self.skipped += 1;
        if self.skipped <= SKIPPED_TOLD_MAX {
            let excerpt = excerpt(line);
            self.notes.push(format!("line {number} skipped: {reason}{excerpt}"));
        }
    }

    fn finish(mut self, options: LogOptions) -> Result<Log, Failure> {
        if self.points.is_empty() {
            return Err(Failure::NoSample(match self.notes.first() {
                Some(first) if self.skipped > 1 => format!("{first}, and so on for {}", lines(self.skipped)),
                Some(first) => first.clone(),
                None => format!("{}, all blank, comments or a header", lines(self.lines)),
            }));
        }
        self.tell_rest();
        let Reader { mut points, steps_back, mut notes, .. } = self;
        if options.lsof_header {
            points.values.iter_mut().for_each(|value| *value = (*value - 1.0).max(0.0));
        }
        let events = restart::restarts(&points).unwrap_or_else(|note| {
            notes.push(note);
            Vec::new()
        });
        let interval_unsorted = timeline::usual_interval(&points.times);
        notes.extend(timeline::sort(&mut points, &steps_back, interval_unsorted));
        let dropped = timeline::drop_duplicates(&mut points);
        if dropped > 0 {
            notes.push(format!(
                "{} with a time that a later line has too: the last of each time counts",
                lines(dropped as u64)
            ));
        }
        let interval_seconds = timeline::usual_interval(&points.times);
        let gaps = timeline::gaps(&points.times, interval_seconds);
        Ok(Log { points, gaps, events, notes, interval_seconds })
    }

    /// Notes on what holds for the log as a whole.
    fn tell_rest(&mut self) {
        if self.skipped > SKIPPED_TOLD_MAX {
            self.notes.push(format!("{} more skipped", lines(self.skipped - SKIPPED_TOLD_MAX)));
        }
        for form in &self.forms {
            self.notes.push(match form {
                Form::Seconds | Form::Zoned => continue,
                Form::Milliseconds => "times in milliseconds, by their magnitude".to_owned(),
                Form::Microseconds => "times in microseconds, by their magnitude".to_owned(),
                Form::Nanoseconds => "times in nanoseconds, by their magnitude".to_owned(),
                Form::Unzoned => "times without a zone are taken as UTC".to_owned(),
            });
        }
        if self.more_columns {
            self.notes.push("only the first two columns are read, time and value; there are more".to_owned());
        }
    }
}

/// A line of words ahead of the numbers.
fn is_header(line: &str) -> bool {
    let word = line.trim_start_matches(['"', '\'']);
    word.starts_with(|first: char| first.is_alphabetic() || first == '_') && line.len() < 1024
}

/// The line in a note, cut where it is long.
fn excerpt(line: &str) -> String {
    const LENGTH_MAX: usize = 40;
    if line.is_empty() {
        return String::new();
    }
    let head: String = line.chars().take(LENGTH_MAX).collect();
    let dots = if head.len() < line.len() { "..." } else { "" };
    format!(": `{}{dots}`", head.escape_debug())
}

fn lines(count: u64) -> String {
    if count == 1 { "1 line".to_owned() } else { format!("{count} lines") }
}

/// Hands on each line without its end, or `None` for one that is longer than [`LINE_LENGTH_MAX`].
fn each_line(mut source: impl Read, mut take: impl FnMut(Option<&[u8]>)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LENGTH];
    let mut filled = 0;
    // Inside a line whose beginning was too long and is dropped.
    let mut dropping = false;
    loop {
        let got = match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        filled += got;
        let mut start = 0;
        while let Some(length) = buffer[start..filled].iter().position(|byte| *byte == b'\n') {
            let fits = !dropping && length <= LINE_LENGTH_MAX;
            take(fits.then_some(&buffer[start..start + length]));
            dropping = false;
            start += length + 1;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if filled > LINE_LENGTH_MAX {
            dropping = true;
            filled = 0;
        }
    }
    if dropping {
        take(None);
    } else if filled > 0 {
        take(Some(&buffer[..filled]));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
