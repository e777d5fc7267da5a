//! `/proc/PID/fdinfo/N`: what tells one descriptor of a kind from another.
//!
//! Formats: proc_pid_fdinfo(5) and the `show_fdinfo` functions of Linux: `fs/eventfd.c`, `fs/eventpoll.c`,
//! `fs/notify/fdinfo.c`, `fs/timerfd.c`, `fs/signalfd.c`, `fs/pidfs.c`, `io_uring/fdinfo.c`, `kernel/bpf/syscall.c`.

use crate::model::{Detail, Kind};
use std::io::{self, BufRead};

/// Adds what the lines say of a descriptor of this kind to its detail. A line is taken at a time: an inotify instance has
/// one for each watch, of which there may be some 100,000.
pub(super) fn read(lines: impl BufRead, kind: Kind, detail: &mut Detail) -> io::Result<()> {
    let mut found = Found::default();
    for line in lines.split(b'\n') {
        let line = line?;
        if let Ok(line) = std::str::from_utf8(&line) {
            found.line(kind, line, detail);
        }
    }
    match kind {
        Kind::Epoll => detail.targets = Some(found.entries),
        Kind::Inotify | Kind::Fanotify => detail.watches = Some(found.entries),
        Kind::IoUring => {
            detail.submissions = found.tail.zip(found.head).map(|(tail, head)| tail.wrapping_sub(head).into());
        }
        _ => {}
    }
    Ok(())
}

/// What more than one line tells.
#[derive(Default)]
struct Found {
    entries: u64,
    head: Option<u32>,
    tail: Option<u32>,
}

impl Found {
    fn line(&mut self, kind: Kind, line: &str, detail: &mut Detail) {
        let Some((key, value)) = line.split_once(':') else { return };
        let value = value.trim();
        match (kind, key) {
            (Kind::File | Kind::Memfd | Kind::BlockDevice, "pos") => detail.offset = value.parse().ok(),
            (Kind::Eventfd, "eventfd-count") => detail.count = u64::from_str_radix(value, 16).ok(),
            (Kind::Epoll, "tfd") | (Kind::Inotify, "inotify wd") => self.entries += 1,
            // `fanotify flags:` tells of the whole group, every other line of a mark.
            (Kind::Fanotify, _) if key.starts_with("fanotify ") && key != "fanotify flags" => self.entries += 1,
            (Kind::Timerfd, "clockid") => detail.clock = value.parse().ok().map(clock_name),
            (Kind::Timerfd, "it_interval") => detail.interval_seconds = interval(value),
            (Kind::Signalfd, "sigmask") => detail.signals = u64::from_str_radix(value, 16).ok().map(signals),
            // 0 is a process of another pid namespace, which has no number here.
            (Kind::Pidfd, "Pid") => detail.pid = value.parse().ok().filter(|pid| *pid != 0),
            (Kind::IoUring, "SqHead") => self.head = value.parse().ok(),
            (Kind::IoUring, "SqTail") => self.tail = value.parse().ok(),
            // A link also names its program, behind its own number.
            (Kind::Bpf, "map_id" | "prog_id" | "link_id" | "btf_id") if detail.object.is_none() || key == "link_id" => {
                detail.object = Some(key.trim_end_matches("_id").to_owned());
                detail.object_id = value.parse().ok();
            }
            _ => {}
        }
    }
}

/// The clocks of timerfd_create(2) by `linux/time.h`.
fn clock_name(number: u32) -> String {
    let name = match number {
        0 => "realtime",
        1 => "monotonic",
        7 => "boottime",
        8 => "realtime_alarm",
        9 => "boottime_alarm",
        _ => return number.to_string(),
    };
    name.to_owned()
}

/// Seconds of `(1, 500000000)`.
fn interval(value: &str) -> Option<f64> {
    let (seconds, nanoseconds) = value.strip_prefix('(')?.strip_suffix(')')?.split_once(", ")?;
    Some(seconds.parse::<f64>().ok()? + nanoseconds.parse::<f64>().ok()? / 1e9)
}

/// The signals of signal(7) on the machines that we build for, in the order of their numbers, from 1.
const SIGNALS: &str = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP \
                       TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";

/// The names of a set: bit 0 is signal 1. The C library keeps 32 and 33 for itself, so that 34 is its first of real time.
fn signals(mask: u64) -> Vec<String> {
    let name = |number: usize| match SIGNALS.split(' ').nth(number - 1) {
        Some(name) => format!("SIG{name}"),
        None if number < 34 => number.to_string(),
        None => format!("SIGRTMIN+{}", number - 34),
    };
    (1..=64).filter(|number| mask >> (number - 1) & 1 == 1).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(kind: Kind, text: &str) -> Detail {
        let mut detail = Detail::default();
        read(text.as_bytes(), kind, &mut detail).expect("reads");
        detail
    }

    #[test]
    fn every_kind_has_its_own_lines() {
        assert_eq!(detail(Kind::File, "pos:\t4096\nflags:\t02\n").offset, Some(4_096));
        assert_eq!(detail(Kind::Eventfd, "pos:\t7\neventfd-count:               1f\n").count, Some(31));
        assert_eq!(detail(Kind::Epoll, "pos:\t0\ntfd:        5 events:\ntfd:  6 events:\n").targets, Some(2));
        assert_eq!(detail(Kind::Epoll, "pos:\t0\n").targets, Some(0));
        assert_eq!(detail(Kind::Inotify, "inotify wd:2 ino:1\ninotify wd:1 ino:2\n").watches, Some(2));
        let marks = "fanotify flags:0 event-flags:8000\nfanotify mnt_id:1b mflags:0\nfanotify ino:2 sdev:1\n";
        assert_eq!(detail(Kind::Fanotify, marks).watches, Some(2));
        let timer = detail(Kind::Timerfd, "clockid: 7\nit_value: (0, 5)\nit_interval: (1, 500000000)\n");
        assert_eq!((timer.clock.as_deref(), timer.interval_seconds), (Some("boottime"), Some(1.5)));
        assert_eq!(detail(Kind::Pidfd, "Pid:\t-1\nNSpid:\t-1\n").pid, Some(-1));
        assert_eq!(detail(Kind::Pidfd, "Pid:\t0\n").pid, None);
        assert_eq!(detail(Kind::IoUring, "SqHead:\t4294967295\nSqTail:\t2\n").submissions, Some(3));
        assert_eq!(detail(Kind::IoUring, "UserFiles:\t0\n").submissions, None);
        let link = detail(Kind::Bpf, "link_type:\titer\nlink_id:\t4\nprog_tag:\tab\nprog_id:\t9\n");
        assert_eq!((link.object.as_deref(), link.object_id), (Some("link"), Some(4)));
    }

    #[test]
    fn signals_have_their_names() {
        let names = detail(Kind::Signalfd, "sigmask:\t8000000240000a01\n").signals.expect("is there");
        assert_eq!(names, ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGSYS", "SIGRTMIN+0", "SIGRTMIN+30"]);
    }

    #[test]
    fn what_is_cut_or_strange_is_unknown() {
        for kind in [Kind::File, Kind::Eventfd, Kind::Timerfd, Kind::Signalfd, Kind::Pidfd, Kind::Bpf, Kind::IoUring] {
            let text = "pos:\neventfd-count: x\nclockid:\nit_interval: (1\nsigmask: g\nPid:\nmap_id:\nSqHead:\n";
            let told = detail(kind, text);
            assert_eq!(Detail { object: None, ..told }, Detail::default(), "{kind}");
        }
    }
}
