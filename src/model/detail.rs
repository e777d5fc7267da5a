//! What tells one resource from another of its kind, beyond its name, its addresses and what it carried.

use serde::{Deserialize, Serialize};

/// What the kernel says besides. Each kind of resource has a few of these fields; a field that is missing is not of its
/// kind, or was not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// The user who made the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The cgroup that the socket was made in, as a path of the unified hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Whose sockets it is among, where the process' own can't be told: `user 1000`, `cgroup /orders.service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Bytes written and not yet acknowledged by the peer (TCP), or not yet sent (UDP). Of a listener the length its
    /// queue may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_queue: Option<u64>,
    /// Bytes received and not yet read. Of a listener the connections that wait to be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_queue: Option<u64>,
    /// Segments sent again, since the connection was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
    /// The state of TCP's congestion control, by the kernel's names: `open`, `disorder`, `cwr`, `recovery`, `loss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub congestion_state: Option<String>,
    /// Where in the file the next byte is read or written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// True of a file that has no name any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<bool>,
    /// True of a descriptor made with `O_PATH`: it names the file, which can be neither read nor written by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_only: Option<bool>,
    /// Which end of a pipe: `read`, `write`, or `both` of a FIFO opened for both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Who holds the other end of the pipe: processes and their descriptors. Empty where nobody does, which only one who
    /// may see every process of the machine can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_end: Option<Vec<PipeEnd>>,
    /// The number an eventfd stands at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How many descriptors an epoll waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<u64>,
    /// How many inotify watches or fanotify marks it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watches: Option<u64>,
    /// The clock of a timerfd: `realtime`, `monotonic`, `boottime`, `realtime_alarm`, `boottime_alarm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    /// The interval of a timerfd in seconds; 0 of one that rings once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<f64>,
    /// The signals of a signalfd, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signals: Option<Vec<String>>,
    /// The process that a pidfd refers to; -1 once it has ended and was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i64>,
    /// The device's number, `major:minor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What sort of BPF object: `map`, `prog`, `link`, `btf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The kernel's number of a BPF object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_id: Option<u64>,
    /// Requests that an io_uring has queued and not yet taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submissions: Option<u64>,
}

/// One holder of a pipe's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipeEnd {
    /// The process.
    pub pid: u32,
    /// Its descriptor.
    pub fd: i32,
}

impl Detail {
    /// True of a socket that may be any process' of a user: it says nothing of the target.
    pub fn is_of_some_process(&self) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.starts_with("user "))
    }

    /// True where `self` says something lasting that `before` didn't: what moves all the time (queues, offset, counts of
    /// segments and events) is no news by itself.
    pub fn is_news(&self, before: &Detail) -> bool {
        let lasting = |it: &Detail| Detail {
            send_queue: None,
            receive_queue: None,
            retransmits: None,
            congestion_state: None,
            offset: None,
            count: None,
            submissions: None,
            ..it.clone()
        };
        lasting(self) != lasting(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_no_news_and_what_lasts_is() {
        let before = Detail { offset: Some(3), deleted: Some(false), ..Detail::default() };
        let moved = Detail { offset: Some(4), ..before.clone() };
        let deleted = Detail { deleted: Some(true), ..moved.clone() };
        assert!(!moved.is_news(&before));
        assert!(deleted.is_news(&moved));
    }

    #[test]
    fn only_what_is_known_is_written() {
        let detail = Detail { targets: Some(0), ..Detail::default() };
        let text = serde_json::to_string(&detail).expect("is JSON");
        assert_eq!(text, r#"{"targets":0}"#);
        assert_eq!(serde_json::from_str::<Detail>(&text).expect("reads back"), detail);
    }
}
