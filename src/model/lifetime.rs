//! When a resource was opened, and when it was closed, or that it is still open.

use super::{Access, Group, Kind, LastUse, ProcessKey, Resource, Timestamp, Use};

/// A lifetime's number within one recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LifetimeId(pub u64);

/// A descriptor that refers to the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose.
    pub process: ProcessKey,
    /// Its number there.
    pub fd: i32,
    /// How it may be used.
    pub access: Option<Access>,
}

/// One resource from its opening to its closing.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifetime {
    /// Its number in the recording.
    pub id: LifetimeId,
    /// What it is, as last seen.
    pub resource: Resource,
    /// The descriptors that refer to it, as last seen.
    pub holders: Vec<Holder>,
    /// The address that was listened on, of a connection that the target accepted.
    pub accepted_by: Option<String>,
    /// It was opened after this moment; `None` where it was there before the recording began.
    pub opened_after: Option<Timestamp>,
    /// It was opened at this moment or before; when it was first seen, or the very moment where `opened_exact`.
    pub opened: Timestamp,
    /// True where the moment of opening was witnessed.
    pub opened_exact: bool,
    /// When it was last seen to have changed; for one that is closed, the last tick that saw it open.
    pub last_seen: Timestamp,
    /// The last byte in either direction, as far as is known.
    pub last_active: Option<Timestamp>,
    /// When it was found closed; `None` while it is open, and where the recording or its process ended first.
    pub closed: Option<Timestamp>,
    /// True where it was open in a process when that process ended: neither closed by it nor open any more. With `closed`
    /// set it is forgotten, for other processes of the target have run on.
    pub ended_with_process: bool,
    /// Who opened it; `None` where nobody saw it.
    pub opener: Option<Box<Use>>,
    /// Who used it last, and what was said; `None` where that was not seen.
    pub last_use: Option<Box<LastUse>>,
}

impl Lifetime {
    /// The lifetimes it is judged with: same kind, same peer; of accepted ones the same listener, of files the same folder.
    pub fn group(&self) -> Group {
        let resource = &self.resource;
        let endpoint = match (&self.accepted_by, &resource.remote, resource.kind) {
            (Some(listener), _, _) => format!("accepted {listener}"),
            (None, Some(remote), _) => remote.to_string(),
            (None, None, Kind::File | Kind::Directory) => {
                folder_of(resource.name.as_deref().unwrap_or_default()).to_owned()
            }
            (None, None, _) => String::new(),
        };
        Group { kind: resource.kind, endpoint }
    }

    /// True where it was there when the recording began, so that its age is not known, only bounded from below.
    pub fn is_older_than_recording(&self) -> bool {
        self.opened_after.is_none() && !self.opened_exact
    }

    /// Seconds open by `now`, or until it was closed; at least that where it is older than the recording.
    pub fn age_seconds(&self, now: Timestamp) -> f64 {
        self.closed.unwrap_or(now).seconds_since(self.opened).max(0.0)
    }

    /// Seconds without a byte by `now`, or until it was closed; `None` where no activity is known.
    pub fn silent_seconds(&self, now: Timestamp) -> Option<f64> {
        self.last_active.map(|last| self.closed.unwrap_or(now).seconds_since(last).max(0.0))
    }
}

/// The folder that a path lies in.
fn folder_of(path: &str) -> &str {
    path.rfind('/').map_or("", |slash| &path[..slash.max(1)])
}
