//! What the loop waits for: the next tick, a signal, the end of the target.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Processes whose end is waited for, a descriptor of our own each.
const ENDS_MAX: usize = 64;

/// Why the loop woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// It is time for a tick.
    Tick,
    /// A signal arrived; from the terminal it reaches everyone in the foreground, not only us.
    Signal {
        /// Its number.
        number: i32,
        /// True where the kernel sent it for a key or a hang-up.
        by_terminal: bool,
    },
    /// The last of the processes that we follow has ended.
    Ended,
    /// The time that was asked for is over.
    Over,
}

/// Ticks on a monotonic schedule, and what comes in between.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    every: Duration,
    next: u32,
    until: Option<Instant>,
    wakes: Receiver<Wake>,
    send: Sender<Wake>,
}

impl Schedule {
    /// The first tick is due at once. Signals are caught from now on.
    pub(crate) fn start(every: Duration, catch_child: bool) -> io::Result<Self> {
        let (send, wakes) = channel();
        let mut caught = vec![SIGINT, SIGTERM, SIGHUP];
        if catch_child {
            caught.extend([SIGCHLD, SIGQUIT, SIGUSR1, SIGUSR2]);
        }
        // `nohup` has us ignore the hang-up: then it stays ignored.
        let ignored = ignored_signals();
        caught.retain(|number| ignored >> (number - 1) & 1 == 0);
        let mut signals = SignalsInfo::<WithOrigin>::new(caught)?;
        let signalled = send.clone();
        thread::spawn(move || {
            for origin in signals.forever() {
                let by_terminal = matches!(origin.cause, Cause::Kernel);
                if signalled.send(Wake::Signal { number: origin.signal, by_terminal }).is_err() {
                    break;
                }
            }
        });
        Ok(Schedule { start: Instant::now(), every, next: 0, until: None, wakes, send })
    }

    /// Ends it this long after its start.
    pub(crate) fn end_after(&mut self, length: Option<Duration>) {
        self.until = length.map(|length| self.start + length);
    }

    /// Goes on at this interval, from the tick that was due last.
    pub(crate) fn set_every(&mut self, every: Duration) {
        if every != self.every {
            self.start += self.every * self.next.saturating_sub(1);
            self.every = every;
            self.next = 1;
        }
    }

    /// Where to send what else ends the loop.
    pub(crate) fn waker(&self) -> Sender<Wake> {
        self.send.clone()
    }

    /// Wakes the loop when the last of these processes ends, at that moment. Where the kernel has no pidfd, or they are too
    /// many, the next tick notices.
    pub(crate) fn watch_ends(&self, pids: impl IntoIterator<Item = u32>) {
        let pids: Vec<u32> = pids.into_iter().collect();
        if pids.len() > ENDS_MAX {
            return;
        }
        let open = |pid| pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok();
        let Some(pidfds) = pids.into_iter().map(open).collect::<Option<Vec<_>>>() else { return };
        let ended = self.send.clone();
        thread::spawn(move || {
            for pidfd in pidfds {
                while let Err(rustix::io::Errno::INTR) = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None) {}
            }
            let _ = ended.send(Wake::Ended);
        });
    }

    /// Waits for what comes next. A tick that is late is not made up for: the schedule goes on with the next one due.
    pub(crate) fn wait(&mut self) -> Wake {
        let tick = self.start + self.every * self.next;
        let over = self.until.filter(|until| *until < tick);
        let due = over.unwrap_or(tick);
        match self.wakes.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(wake) => wake,
            Err(_) if over.is_some() => Wake::Over,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let passed = self.start.elapsed().as_nanos() / self.every.as_nanos();
                self.next = self.next.max(u32::try_from(passed).unwrap_or(u32::MAX)).saturating_add(1);
                Wake::Tick
            }
        }
    }
}

/// The signals that whoever started us wants ignored: bit n - 1 for signal n.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_interval_counts_from_the_last_tick() {
        let mut schedule = Schedule::start(Duration::from_millis(50), false).expect("starts");
        let begun = schedule.start;
        for _ in 0..3 {
            assert_eq!(schedule.wait(), Wake::Tick);
        }
        schedule.set_every(Duration::from_millis(200));
        schedule.set_every(Duration::from_millis(200));
        let due = schedule.start + schedule.every * schedule.next;
        assert!(due >= begun + Duration::from_millis(300), "{:?}", due - begun);
        assert_eq!(schedule.wait(), Wake::Tick);
        assert!(Instant::now() >= due && schedule.next == 2);
    }

    #[test]
    fn a_late_tick_is_not_made_up_for_and_nothing_drifts() {
        let every = Duration::from_millis(50);
        let mut schedule = Schedule::start(every, false).expect("starts");
        assert_eq!(schedule.wait(), Wake::Tick);
        thread::sleep(Duration::from_millis(175));
        let mut ticks = Vec::new();
        for _ in 0..4 {
            assert_eq!(schedule.wait(), Wake::Tick);
            ticks.push(schedule.start.elapsed());
        }
        // Late at about 175, then at 200, 250 and 300 ms: never two at once, never off the grid.
        for pair in ticks.windows(2).skip(1) {
            assert!(pair[1] - pair[0] > Duration::from_millis(20), "{ticks:?}");
        }
        assert!(ticks[3] >= Duration::from_millis(300), "{ticks:?}");
    }
}
