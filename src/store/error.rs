//! What can go wrong with a recording, in words that say what mends it.

use std::path::{Path, PathBuf};

/// A recording that can't be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is nothing of that name.
    #[error("{0}: no such file")]
    Missing(PathBuf),
    /// It is a folder.
    #[error("{0} is a folder, not a recording")]
    Folder(PathBuf),
    /// We may not.
    #[error("{path}: permission denied ({what})")]
    Denied {
        /// The file.
        path: PathBuf,
        /// What we wanted of it.
        what: &'static str,
    },
    /// It holds nothing.
    #[error("{0} is empty: neither a recording nor a log")]
    Empty(PathBuf),
    /// It is something else.
    #[error("{0} is no recording of unclosed, nor a log of unix_time,value lines")]
    NotARecording(PathBuf),
    /// A later version of this program wrote it.
    #[error("{path} was written by a later version of unclosed (format {found}; this one reads up to {known})")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The latest format that we read.
        known: i64,
    },
    /// Part of it is missing or wrong.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it shows.
        reason: String,
    },
    /// The disk has no room.
    #[error("{path}: the disk is full")]
    Full {
        /// The recording.
        path: PathBuf,
    },
    /// It was to be made in a folder that isn't there.
    #[error("{0} can't be made: its folder does not exist")]
    NoFolder(PathBuf),
    /// It is there already, and is no recording that could be gone on with.
    #[error("{0} exists already; a recording never overwrites")]
    Exists(PathBuf),
    /// Anything else that SQLite says.
    #[error("{path}: {source}")]
    Sqlite {
        /// The recording.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// Anything else that the system says.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Words what SQLite says about `path`.
    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::{Error, ErrorCode};
        let path = path.to_owned();
        // We wrote each value in its form: one that has another was overwritten.
        if let Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..) = source
        {
            return StoreError::Damaged { path, reason: format!("a value in it is none that we write: {source}") };
        }
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            Some(ErrorCode::NotADatabase) => StoreError::NotARecording(path),
            Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged {
                path,
                reason: "its pages do not fit together, as when a copy was cut short".into(),
            },
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => StoreError::Denied { path, what: "to write it" },
            _ => StoreError::Sqlite { path, source },
        }
    }

    /// Words what the system says about `path`.
    pub(super) fn io(path: &Path, what: &'static str, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            std::io::ErrorKind::NotFound => StoreError::Missing(path),
            std::io::ErrorKind::PermissionDenied => StoreError::Denied { path, what },
            std::io::ErrorKind::StorageFull => StoreError::Full { path },
            std::io::ErrorKind::IsADirectory => StoreError::Folder(path),
            _ => StoreError::Io { path, source },
        }
    }

    /// The command or the thought that mends it.
    pub fn hint(&self) -> Option<String> {
        match self {
            StoreError::Missing(path) => {
                let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
                Some(format!("ls {} shows what is there", folder.display()))
            }
            StoreError::Folder(path) => Some(format!("name a file in it: ls {}", path.display())),
            StoreError::Denied { path, .. } => {
                Some(format!("ls -l {} shows whose it is; sudo, or another --output", path.display()))
            }
            StoreError::Empty(_) | StoreError::NotARecording(_) => {
                Some("`unclosed record -p PID` makes a recording; a log has one `unix_time,value` a line".into())
            }
            StoreError::Newer { .. } => Some("update unclosed: cargo install unclosed".into()),
            StoreError::Damaged { path, .. } => Some(format!(
                "if it is a copy, copy it again together with its -wal; what is left: sqlite3 {} .recover",
                path.display()
            )),
            StoreError::Full { path } => {
                let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
                Some(format!("free some room (df -h {}), or record elsewhere with --output", folder.display()))
            }
            StoreError::NoFolder(path) => {
                let folder = path.parent().unwrap_or(Path::new("."));
                Some(format!("mkdir -p {}, or name another place with --output", folder.display()))
            }
            StoreError::Exists(_) => Some("name another file with --output".into()),
            StoreError::Sqlite { .. } | StoreError::Io { .. } => None,
        }
    }
}
