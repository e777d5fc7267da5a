//! Errors as a person reads them: what failed, why, and what mends it.

use crate::present::replay::ReplayError;
use crate::sample::{ReadError, RuleError, SourceError};
use crate::store::StoreError;
use crate::store::input::InputError;
use crate::store::lifetimes::HEADER;
use std::io;

/// The exit codes of the program.
pub(crate) mod exit {
    pub(crate) const FINE: u8 = 0;
    pub(crate) const ERROR: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const LEAK: u8 = 3;
    pub(crate) const UNDECIDED: u8 = 4;
    pub(crate) const NO_TARGET: u8 = 5;
}

/// A failure with the sentence that mends it and the code the program ends with.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// What failed, on what, why.
    pub(crate) message: String,
    /// What mends it.
    pub(crate) hint: Option<String>,
    /// The exit code.
    pub(crate) code: u8,
}

impl Failure {
    /// Any failure that the words explain.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Failure { message: message.into(), hint: None, code: exit::ERROR }
    }

    /// Something typed that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure { code: exit::USAGE, ..Failure::new(message) }
    }

    /// No such target.
    pub(crate) fn no_target(message: impl Into<String>) -> Self {
        Failure { code: exit::NO_TARGET, ..Failure::new(message) }
    }

    /// The same with what mends it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure { message: error.to_string(), hint: error.hint(), code: exit::ERROR }
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        if let InputError::NoLifetime { .. } = error {
            return Failure::new(error.to_string()).hint(format!("a CSV of connections begins with {HEADER}"));
        }
        // The last part of its sentence says what mends it.
        let sentence = error.to_string();
        match sentence.rsplit_once("; ") {
            Some((message, fix)) => Failure::new(message).hint(fix),
            None => {
                Failure::new(sentence).hint("a log has one `unix_time,value` a line, as `unclosed watch -o csv` prints")
            }
        }
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Store(error) => error.into(),
            ReplayError::Input(error) => error.into(),
            ReplayError::NoTick { .. } => Failure::usage(error.to_string()),
            ReplayError::NoSuchSeries { .. } => {
                Failure::usage(error.to_string()).hint("`unclosed show FILE` lists its series")
            }
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone(pid) => Failure::no_target(format!("there is no process {pid}"))
                .hint("pgrep -a NAME finds a process; `unclosed watch -c NAME` takes a name"),
            ReadError::Denied { .. } => {
                Failure::new(error.to_string()).hint("run it as that process' user, or by sudo")
            }
            _ => Failure::new(error.to_string()),
        }
    }
}

impl From<RuleError> for Failure {
    fn from(error: RuleError) -> Self {
        let hint = match &error {
            RuleError::NoName => "-c NAME takes the begin of a name, -c '/REGEX/' an expression",
            RuleError::Regex { .. } => "write it as '/orders.*api/' or, for either case, '/orders/i'",
            RuleError::NoSuchUser(_) => {
                "id -u USER gives the number of a user that is known elsewhere; -u takes that, too"
            }
            RuleError::NotAnId(_) => {
                "docker ps, podman ps and crictl ps print the ids; kubectl's containerd://ID will do"
            }
            RuleError::SeveralContainers { .. } => "give more of its digits",
        };
        Failure::usage(error.to_string()).hint(hint)
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Failure::new(format!("--source bpf: {error}"))
            .hint("`unclosed doctor` tells what it takes; without --source the fastest way that is allowed is taken")
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // Whoever read our output has gone: that ends us quietly, as SIGPIPE would.
        let code = if error.kind() == io::ErrorKind::BrokenPipe { exit::FINE } else { exit::ERROR };
        Failure { message: format!("cannot write: {error}"), hint: None, code }
    }
}
