//! Series beside the default ones: the size of a folder, the number that a command prints.
//!
//! Each metric has a thread of its own, so that none delays another or the tick; one that isn't done within its time is a
//! gap with that reason.

use crate::model::{Reading, Unit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How much of a command's output is kept: a number is shorter.
const OUTPUT_MAX: usize = 4_096;

/// A number to take at each tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metric {
    /// `disk:PATH`: the bytes a folder takes on disk, without the folders in it that we may not read.
    Disk(PathBuf),
    /// `command:CMD`: the number that the shell command prints.
    Command(String),
}

/// A metric that can't be understood.
#[derive(Debug, thiserror::Error)]
#[error("--metric {0:?} is neither disk:PATH nor command:'CMD'")]
pub struct MetricError(String);

/// Without the quotes that stand around it in the manual, where a shell has left them.
fn unquoted(command: &str) -> &str {
    let command = command.trim();
    let inside = |quote: char| command.strip_prefix(quote)?.strip_suffix(quote).filter(|rest| !rest.contains(quote));
    inside('\'').or_else(|| inside('"')).unwrap_or(command)
}

impl Metric {
    /// Reads `disk:PATH` or `command:CMD`.
    pub fn parse(text: &str) -> Result<Metric, MetricError> {
        match text.split_once(':') {
            Some(("disk", path)) if !path.is_empty() => Ok(Metric::Disk(PathBuf::from(path))),
            Some(("command", command)) if !unquoted(command).is_empty() => {
                Ok(Metric::Command(unquoted(command).to_owned()))
            }
            _ => Err(MetricError(text.to_owned())),
        }
    }

    /// The series' name.
    pub fn series(&self) -> String {
        match self {
            Metric::Disk(path) => format!("disk:{}", path.display()),
            Metric::Command(command) => format!("command:{command}"),
        }
    }

    fn unit(&self) -> Unit {
        match self {
            Metric::Disk(_) => Unit::Bytes,
            Metric::Command(_) => Unit::Count,
        }
    }

    /// Takes the number, or says why there is none. Ends by `deadline`.
    pub fn take(&self, deadline: Instant) -> Result<f64, String> {
        match self {
            Metric::Disk(path) => disk_bytes(path, deadline).map(|bytes| bytes as f64),
            Metric::Command(command) => command_number(command, deadline),
        }
    }
}

/// The threads that take metrics.
#[derive(Debug)]
pub(super) struct MetricWorkers {
    workers: Vec<Worker>,
    limit: Duration,
    begun: Instant,
}

#[derive(Debug)]
struct Worker {
    metric: Metric,
    ask: SyncSender<Instant>,
    answer: Receiver<Result<f64, String>>,
    /// Asked, and not answered yet.
    busy: bool,
    /// Asked at this tick; not so where it was still busy with an earlier one.
    asked: bool,
}

impl MetricWorkers {
    pub(super) fn start(metrics: Vec<Metric>, limit: Duration) -> Self {
        let start = |metric: Metric| {
            let (ask, asked) = sync_channel::<Instant>(1);
            let (reply, answer): (Sender<Result<f64, String>>, _) = channel();
            let taken = metric.clone();
            // It ends when the sampler does: `asked` is then closed.
            thread::spawn(move || {
                for deadline in asked {
                    if reply.send(taken.take(deadline)).is_err() {
                        break;
                    }
                }
            });
            Worker { metric, ask, answer, busy: false, asked: false }
        };
        MetricWorkers { workers: metrics.into_iter().map(start).collect(), limit, begun: Instant::now() }
    }

    /// Asks every worker that has answered.
    pub(super) fn begin(&mut self) {
        self.begun = Instant::now();
        for worker in &mut self.workers {
            // An answer that came too late for its tick is not this tick's.
            if worker.busy && worker.answer.try_recv().is_ok() {
                worker.busy = false;
            }
            worker.asked = !worker.busy && worker.ask.send(self.begun + self.limit).is_ok();
            worker.busy |= worker.asked;
        }
    }

    /// Collects the answers, waiting until the limit is over.
    pub(super) fn finish(&mut self, readings: &mut Vec<Reading>) {
        // A little past the limit, so that a worker that keeps to it can say why it stopped.
        let deadline = self.begun + self.limit + Duration::from_millis(20);
        for worker in &mut self.workers {
            let value = if worker.asked {
                match worker.answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(value) => {
                        worker.busy = false;
                        value
                    }
                    Err(RecvTimeoutError::Timeout) => Err(took_too_long(self.limit)),
                    Err(RecvTimeoutError::Disconnected) => Err("its thread ended".to_owned()),
                }
            } else {
                Err("still busy with an earlier tick; a longer --every gives it time".to_owned())
            };
            readings.push(Reading { series: worker.metric.series(), unit: worker.metric.unit(), value });
        }
    }
}

fn took_too_long(limit: Duration) -> String {
    format!("took longer than {} ms; a longer --every gives it time", limit.as_millis())
}

/// The bytes that a folder takes on disk, counted as `du` counts: blocks rather than lengths, hard links once, folders
/// too, links not followed, no crossing into other file systems. What can't be read below the folder itself is left out,
/// as `du` does: the number is then of what we may see.
fn disk_bytes(root: &Path, deadline: Instant) -> Result<u64, String> {
    let begun = Instant::now();
    let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::NLINK | StatxFlags::BLOCKS;
    let look = |path: &Path| statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, mask);
    let words = |path: &Path, error: io::Error| format!("cannot read {}: {error}", path.display());
    // The path itself may be a link, as with `du PATH/`.
    let root = fs::canonicalize(root).map_err(|error| words(root, error))?;
    let first = look(&root).map_err(|error| words(&root, error.into()))?;
    let device = (first.stx_dev_major, first.stx_dev_minor);
    let mut linked: HashSet<u64> = HashSet::new();
    let mut bytes = first.stx_blocks * 512;
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // It is the file that we were asked for.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => continue,
            Err(error) if folder == root => return Err(words(&folder, error)),
            // It was removed meanwhile, or is not ours to read.
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            if Instant::now() > deadline {
                return Err(took_too_long(deadline - begun));
            }
            let path = entry.path();
            let Ok(found) = look(&path) else { continue };
            if (found.stx_dev_major, found.stx_dev_minor) != device {
                continue;
            }
            let is_folder = u32::from(found.stx_mode) & 0o170_000 == 0o040_000;
            if !is_folder && found.stx_nlink > 1 && !linked.insert(found.stx_ino) {
                continue;
            }
            bytes += found.stx_blocks * 512;
            if is_folder {
                folders.push(path);
            }
        }
    }
    Ok(bytes)
}

/// Runs a shell command in a process group of its own, which is killed when the time is over.
fn command_number(command: &str, deadline: Instant) -> Result<f64, String> {
    let begun = Instant::now();
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("/bin/sh does not start: {error}"))?;
    let group = Pid::from_child(&child);
    let (mut output, mut complaint) = (
        Pipe { open: child.stdout.take().map(OwnedFd::from), kept: Vec::new() },
        Pipe { open: child.stderr.take().map(OwnedFd::from), kept: Vec::new() },
    );
    let outcome = match read_both(&mut output, &mut complaint, deadline) {
        Ok(true) => wait_until(&mut child, deadline).map_err(|error| format!("waiting for it failed: {error}")),
        Ok(false) => Ok(None),
        Err(reason) => Err(reason),
    };
    if !matches!(outcome, Ok(Some(_))) {
        // The shell too, by itself: it may have left its group. Who left it and holds the pipes loses their other end.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.kill();
        // Reaped here; it is late only where the kernel is, and then this metric alone is busy.
        let _ = child.wait();
    }
    let status = outcome?.ok_or_else(|| took_too_long(deadline - begun))?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint.kept);
        let complaint = complaint.trim().lines().next_back().unwrap_or("no message");
        return Err(format!("failed with {status}: {complaint}"));
    }
    let text = String::from_utf8_lossy(&output.kept);
    let shown: String = text.trim().chars().take(40).collect();
    text.trim()
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
        .ok_or_else(|| format!("printed {shown:?}, which is not one number"))
}

/// What a command writes into one of its pipes.
struct Pipe {
    /// Until everybody who may write has closed it.
    open: Option<OwnedFd>,
    /// The last of it: an error's reason stands at the end.
    kept: Vec<u8>,
}

impl Pipe {
    /// Reads once, which does not wait where there is something to read.
    fn read(&mut self) -> io::Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let mut chunk = [0u8; OUTPUT_MAX];
        match rustix::io::read(open, &mut chunk) {
            Ok(0) => self.open = None,
            Ok(length) => {
                self.kept.extend(&chunk[..length]);
                self.kept.drain(..self.kept.len().saturating_sub(OUTPUT_MAX));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Reads both pipes as they fill, so that neither holds the command up. Whether they were closed by `deadline`.
fn read_both(output: &mut Pipe, complaint: &mut Pipe, deadline: Instant) -> Result<bool, String> {
    let words = |error: io::Error| format!("reading its output failed: {error}");
    while output.open.is_some() || complaint.open.is_some() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut pipes: Vec<&mut Pipe> =
            [&mut *output, &mut *complaint].into_iter().filter(|it| it.open.is_some()).collect();
        let mut waits: Vec<PollFd> =
            pipes.iter().filter_map(|it| it.open.as_ref()).map(|it| PollFd::new(it, PollFlags::IN)).collect();
        match poll(&mut waits, Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(words(error.into())),
        }
        let ready: Vec<bool> = waits.iter().map(|it| !it.revents().is_empty()).collect();
        for (pipe, _) in pipes.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            pipe.read().map_err(words)?;
        }
        if output.kept.len() >= OUTPUT_MAX {
            return Err(format!("printed {OUTPUT_MAX} bytes or more, which is not one number"));
        }
    }
    Ok(true)
}

/// How the child ended; `None` where it still runs at `deadline`.
fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        // It ends right after its pipes but where it closed them itself.
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::unprivileged;
    use std::os::unix::fs::PermissionsExt;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn command(text: &str) -> Result<f64, String> {
        command_number(text, soon())
    }

    #[test]
    fn a_command_gives_one_number_or_a_reason() {
        assert_eq!(command("echo ' 42 '"), Ok(42.0));
        assert_eq!(command("echo 1 2"), Err("printed \"1 2\", which is not one number".into()));
        assert!(command("echo NaN").is_err());
        assert_eq!(command("echo no table >&2; exit 3"), Err("failed with exit status: 3: no table".into()));
        let begun = Instant::now();
        let late = command_number("sleep 30 & sleep 30", Instant::now() + Duration::from_millis(50));
        assert!(late.is_err_and(|reason| reason.starts_with("took longer than")));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn more_than_a_pipe_holds_of_complaints_holds_nothing_up() {
        let much = "head -c 1000000 /dev/zero >&2";
        assert_eq!(command(&format!("{much}; echo 5")), Ok(5.0));
        assert_eq!(
            command(&format!("{much}; (echo; echo 'no table') >&2; exit 3")),
            Err("failed with exit status: 3: no table".into())
        );
        assert_eq!(command("yes"), Err("printed 4096 bytes or more, which is not one number".into()));
    }

    #[test]
    fn a_command_that_closed_its_pipes_or_left_them_to_another_ends_in_time() {
        let begun = Instant::now();
        for late in ["exec >&- 2>&-; sleep 30", "setsid sleep 3 & echo 1"] {
            let late = command_number(late, Instant::now() + Duration::from_millis(100));
            assert!(late.is_err_and(|reason| reason.starts_with("took longer than")));
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "waited for nobody");
    }

    #[test]
    fn a_folder_is_counted_as_du_counts() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let inner = folder.path().join("a/b");
        fs::create_dir_all(&inner).expect("made");
        fs::write(inner.join("file"), vec![1u8; 100_000]).expect("written");
        fs::hard_link(inner.join("file"), folder.path().join("twin")).expect("linked");
        std::os::unix::fs::symlink("/", folder.path().join("root")).expect("linked");
        let du = Command::new("du").args(["-s", "-B1"]).arg(folder.path()).output().expect("du runs");
        let expected: u64 = String::from_utf8_lossy(&du.stdout)
            .split_ascii_whitespace()
            .next()
            .expect("a number")
            .parse()
            .expect("a number");
        assert_eq!(disk_bytes(folder.path(), soon()), Ok(expected));
        assert!(disk_bytes(&folder.path().join("gone"), soon()).is_err_and(|reason| reason.contains("No such file")));
    }

    #[test]
    fn an_unreadable_folder_is_left_out_as_du_does() {
        if !unprivileged("sample::metrics::tests::an_unreadable_folder_is_left_out_as_du_does") {
            return;
        }
        let folder = tempfile::tempdir().expect("a scratch folder");
        let (closed, open) = (folder.path().join("closed"), folder.path().join("open"));
        fs::create_dir(&closed).expect("made");
        fs::write(&open, vec![1u8; 50_000]).expect("written");
        let mode = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).expect("set");
        mode(0);
        let (all, root) = (disk_bytes(folder.path(), soon()), disk_bytes(&closed, soon()));
        mode(0o700);
        assert!(all.is_ok_and(|bytes| bytes >= 50_000));
        assert!(root.is_err_and(|reason| reason.contains("Permission denied")));
    }

    #[test]
    fn a_metric_that_hangs_is_a_gap_and_delays_no_other() {
        let metrics = vec![Metric::Command("sleep 30".into()), Metric::Command("echo 7".into())];
        let mut workers = MetricWorkers::start(metrics, Duration::from_millis(200));
        for _ in 0..2 {
            let mut readings = Vec::new();
            workers.begin();
            workers.finish(&mut readings);
            assert!(readings[0].value.is_err());
            assert_eq!(readings[1].value, Ok(7.0));
        }
    }

    #[test]
    fn metrics_are_named_as_typed() {
        assert_eq!(Metric::parse("disk:/tmp").map(|it| it.series()).ok().as_deref(), Some("disk:/tmp"));
        assert!(Metric::parse("disk:").is_err() && Metric::parse("ram").is_err());
    }
}
