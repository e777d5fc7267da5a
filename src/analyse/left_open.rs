//! What a command left open: judged at its end, by lifetimes, so that one connection is enough.
//!
//! Left open is what a process opened since the command started and still held when it ended by itself; and what processes
//! that outlive the command hold at its end and again when it has settled. What others opened to the command counts only
//! where they have closed it for as long and it has not. Unix sockets count where their peer has a name, for unnamed ones
//! are a runtime's own pipes.
//!
//! Where the kernel didn't tell what processes held as they ended, only what was passed over until their last tick, or what
//! the survivors alone give away, is called a leak. The rest of what was open then is undecided.

mod passed_over;

use crate::model::{
    Address, CommandRun, Finding, Kind, Lifetime, LifetimeId, Report, State, Timestamp, Verdict, duration_words,
};
use passed_over::ClosedOnes;
use std::collections::{BTreeMap, HashSet};

/// Services that the C library and desktops connect a process to once, for as long as it runs: resolver, log, bus, display.
const HOUSEHOLD: [&str; 8] = [
    "/run/nscd/",
    "/var/run/nscd/",
    "/run/systemd/",
    "/dev/log",
    "/run/dbus/",
    "/var/run/dbus/",
    "/tmp/.X11-unix/",
    "/run/user/",
];

/// Surer than anything that is told from numbers.
const WITNESSED: f64 = 0.999;

/// Its closing at the very end was not seen, and is not what programs do that have passed it over.
const PASSED_OVER: f64 = 0.95;

/// With more between two ticks, that the last one saw nothing open says too little of the end.
const LAST_TICK_SECONDS: f64 = 1.0;

/// What was found, before it takes its place in the report.
#[derive(Default)]
struct Found {
    findings: Vec<Finding>,
    /// The probability that each is leaked.
    leaked: BTreeMap<LifetimeId, f64>,
    /// Subjects of which what the survivors say stands.
    told: HashSet<String>,
}

/// What is open at the end and counts.
#[derive(Default)]
struct Left<'a> {
    /// By kind and endpoint, beyond what is allowed.
    groups: BTreeMap<String, Vec<&'a Lifetime>>,
    /// How many of each known pool, by its place among the allowances.
    allowed: BTreeMap<usize, usize>,
}

/// Judges the run that a report is of, where its command has ended: puts what it left open before all other findings.
pub(super) fn judge(report: &mut Report) {
    let Some(run) = report.command.clone() else { return };
    let Some(ended) = run.ended else { return };
    let left = left(report, &run, ended);
    let closed = ClosedOnes::of(&report.population);
    let mut found = Found::default();
    for (subject, open) in &left.groups {
        found.weigh(subject, open, report, &run, &closed);
    }
    if !run.unseen.is_empty() {
        let text = format!("what the command left open is not known in full: {}", run.unseen.join("; "));
        found.findings.push(Finding::new(Verdict::Undecided, "connections", text));
    }
    if found.findings.is_empty() && found.told.is_empty() {
        found.findings.push(of_nothing(report, &run, &left.allowed));
    }
    found.findings.sort_by_key(|finding| (finding.kind, std::cmp::Reverse(finding.evidence.len())));
    let pools = left.allowed.iter();
    let steps: Vec<String> = pools
        .map(|(pool, open)| format!("--allow {}: {open} are open at the end", run.allowed[*pool]))
        .chain([format!("what outlives the command was looked at again after {}", duration_words(run.settle_seconds))])
        .collect();
    found.findings.iter_mut().for_each(|finding| finding.steps.extend(steps.iter().cloned()));
    found.replace_guesses(report);
}

/// Sorts out what counts as left open.
fn left<'a>(report: &'a Report, run: &CommandRun, ended: Timestamp) -> Left<'a> {
    // A process that holds both ends has connected to a server of its own, whose end was accepted: the other one counts.
    // Where neither is known to be, it made a pair for itself.
    let of_pairs: HashSet<(Option<String>, Option<u32>)> = report
        .population
        .open
        .values()
        .filter(|it| it.accepted_by.is_none() && it.resource.remote.is_some())
        .map(|it| (it.resource.local.as_ref().map(Address::to_string), holder(it)))
        .collect();
    let has_both_ends = |it: &Lifetime| {
        it.resource.kind == Kind::Tcp
            && of_pairs.contains(&(it.resource.remote.as_ref().map(Address::to_string), holder(it)))
    };
    let is_left = |it: &&Lifetime| {
        let is_settled = it.ended_with_process || it.opened <= ended;
        let is_theirs = it.accepted_by.is_some()
            && !(it.resource.state == Some(State::CloseWait)
                && (it.ended_with_process || report.to.seconds_since(it.last_seen) >= run.settle_seconds));
        counts(it) && !it.is_older_than_recording() && is_settled && !is_theirs && !has_both_ends(it)
    };
    let mut left = Left::default();
    for lifetime in report.population.open.values().filter(is_left) {
        if let Some(pool) = run.allowed.iter().position(|pool| pool.covers(lifetime)) {
            let pooled = left.allowed.entry(pool).or_default();
            *pooled += 1;
            if *pooled <= run.allowed[pool].most {
                continue;
            }
        }
        let group = lifetime.group();
        left.groups.entry(format!("{} {}", group.kind, group.endpoint)).or_default().push(lifetime);
    }
    left
}

impl Found {
    /// Says of one endpoint's connections what is sure, and of the rest that it isn't.
    fn weigh(&mut self, subject: &str, open: &[&Lifetime], report: &Report, run: &CommandRun, closed: &ClosedOnes) {
        let (witnessed, unwitnessed): (Vec<&Lifetime>, Vec<&Lifetime>) =
            open.iter().partition(|it| run.has_last_look || !it.ended_with_process);
        if !witnessed.is_empty() {
            let text = format!("{} left open at the end, by {}", were(&witnessed, subject), who(report, &witnessed));
            self.leak(subject, text, &witnessed, WITNESSED);
        }
        let times = |it: &Lifetime| closed.passed_over(it, run.settle_seconds);
        let (passed_over, rest): (Vec<&Lifetime>, Vec<&Lifetime>) =
            unwitnessed.iter().partition(|it| times(it).is_some());
        if let Some(times) = passed_over.iter().filter_map(|it| times(it)).min() {
            let text = format!(
                "{} left open, as of the last look at {}: silent for {} or longer, while {times} others or more were opened to it and closed",
                were(&passed_over, subject),
                who(report, &passed_over),
                duration_words(run.settle_seconds),
            );
            self.leak(subject, text, &passed_over, PASSED_OVER);
        }
        // The survivors may tell what nobody witnessed.
        let is_told = report.judged.findings.iter().any(|it| it.kind == Verdict::Leak && it.subject == subject);
        let (told, doubtful): (Vec<&Lifetime>, Vec<&Lifetime>) =
            rest.iter().partition(|it| is_told && report.judged.is_leaked(it.id));
        if !told.is_empty() {
            self.told.insert(subject.to_owned());
            self.leaked.extend(told.iter().filter_map(|it| report.judged.leak_probability.get_key_value(&it.id)));
        }
        if !doubtful.is_empty() {
            let text = format!(
                "{} open when {} was last looked at, and maybe closed before its end: CAP_BPF and CAP_PERFMON, or sudo, let it be told; --every 50ms looks more often",
                were(&doubtful, subject),
                who(report, &doubtful)
            );
            let evidence = doubtful.iter().map(|it| it.id.0.to_string()).collect();
            self.findings.push(Finding { evidence, ..Finding::new(Verdict::Undecided, subject, text) });
        }
    }

    fn leak(&mut self, subject: &str, text: String, open: &[&Lifetime], confidence: f64) {
        self.leaked.extend(open.iter().map(|it| (it.id, confidence)));
        self.findings.push(Finding {
            since: open.iter().map(|it| it.opened).min(),
            confidence: Some(confidence),
            evidence: open.iter().map(|it| it.id.0.to_string()).collect(),
            ..Finding::new(Verdict::Leak, subject, text)
        });
    }

    /// The end is known now: what was guessed of connections stands back. Other kinds stay judged as in any watch.
    fn replace_guesses(self, report: &mut Report) {
        let open = &report.population.open;
        let is_connection = |id: &LifetimeId| open.get(id).is_some_and(|it| it.resource.is_connection());
        report.judged.leak_probability.retain(|id, _| !is_connection(id));
        report.judged.leak_probability.extend(self.leaked);
        let stands = |finding: &Finding| {
            let kind = finding.subject.split(' ').next().unwrap_or_default();
            let is_guess = finding.series.is_none() && ["tcp", "udp", "unix", "connections"].contains(&kind);
            !is_guess || finding.kind == Verdict::Leak && self.told.contains(&finding.subject)
        };
        let findings = &mut report.judged.findings;
        findings.retain(stands);
        let others: Vec<Finding> =
            findings.extract_if(.., |it| !matches!(it.kind, Verdict::Leak | Verdict::Plateau)).collect();
        let is_leak = self.findings.first().is_some_and(|it| it.kind == Verdict::Leak);
        let place = if is_leak { 0 } else { findings.len() };
        findings.splice(place..place, self.findings);
        findings.extend(others);
    }
}

/// Nothing was seen to be left.
fn of_nothing(report: &Report, run: &CommandRun, allowed: &BTreeMap<usize, usize>) -> Finding {
    let was_seen = report.target.as_ref().is_some_and(|target| !target.processes.is_empty());
    if !run.has_last_look && !was_seen {
        let text =
            "the command was over before it could be looked at: CAP_BPF and CAP_PERFMON, or sudo, let its end be seen";
        return Finding::new(Verdict::Undecided, "connections", text);
    }
    let every = report.every_seconds.unwrap_or_default();
    if !run.has_last_look && every > LAST_TICK_SECONDS {
        let text = format!(
            "ticks every {} don't tell what was open at the end: CAP_BPF and CAP_PERFMON, or sudo, let it be seen; --every 50ms looks more often",
            duration_words(every)
        );
        return Finding::new(Verdict::Undecided, "connections", text);
    }
    let pools: Vec<String> = allowed
        .iter()
        .map(|(pool, open)| format!(" but for {open} that --allow {} names", run.allowed[*pool]))
        .collect();
    let pools = pools.join(" and");
    let text = match run.has_last_look {
        true => format!("no connection that the command opened was left open at its end{pools}"),
        false => format!(
            "no connection was open at the last look at each process{pools}; what came in the {} after it is not seen",
            duration_words(every)
        ),
    };
    Finding::new(Verdict::Clean, "connections", text)
}

/// True of a connection to somewhere else.
fn counts(lifetime: &Lifetime) -> bool {
    let resource = &lifetime.resource;
    let is_reset = resource.kind == Kind::Tcp && resource.state == Some(State::Close);
    let is_household = |name: &str| HOUSEHOLD.iter().any(|prefix| name.trim_start_matches('@').starts_with(prefix));
    if lifetime.holders.is_empty() {
        // Only the tables could be read: it may be anybody's.
        return false;
    }
    match (&resource.remote, resource.kind) {
        (Some(_), Kind::Tcp) => !is_reset,
        (Some(_), Kind::Udp) => true,
        // The accepted end has the listener's name.
        (Some(remote), Kind::Unix) => resource.local.is_none() && !is_household(&remote.to_string()),
        _ => false,
    }
}

fn holder(lifetime: &Lifetime) -> Option<u32> {
    lifetime.holders.first().map(|holder| holder.process.0)
}

fn were(open: &[&Lifetime], subject: &str) -> String {
    let (things, were) = if open.len() == 1 { ("connection", "was") } else { ("connections", "were") };
    format!("{} {things} to {} {were}", open.len(), subject.trim_end())
}

/// The processes that held them: the first by name, the others by number.
fn who(report: &Report, open: &[&Lifetime]) -> String {
    let mut keys: Vec<_> = open.iter().flat_map(|it| it.holders.iter().map(|holder| holder.process)).collect();
    keys.sort_unstable();
    keys.dedup();
    let processes = report.target.as_ref().map(|target| &target.processes);
    let first = keys.first().and_then(|key| processes?.get(key));
    match (first, keys.len()) {
        (None, _) => "a process".to_owned(),
        (Some(process), 1) => format!("{} (pid {})", process.name, process.id.pid),
        (Some(process), more) => format!("{} (pid {}) and {} more", process.name, process.id.pid, more - 1),
    }
}

#[cfg(test)]
mod tests;
