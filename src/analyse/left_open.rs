//! What a command left open: judged at its end, by lifetimes, so that one connection is enough.
//!
//! Left open is what a process opened since the command started and still held when it ended by itself; and what processes
//! that outlive the command hold at its end and again when it has settled. What others opened to the command counts only
//! where they have closed it for as long and it has not. Unix sockets count where their peer has a name, for unnamed ones
//! are a runtime's own pipes.

use crate::model::{Address, CommandRun, Finding, Kind, Lifetime, LifetimeId, Report, State, Verdict, duration_words};
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

/// Judges the run that a report is of, where its command has ended: puts what it left open before all other findings.
pub(super) fn judge(report: &mut Report) {
    let Some(run) = report.command.clone() else { return };
    let Some(ended) = run.ended else { return };
    let ours: HashSet<(Option<String>, Option<u32>)> = report
        .population
        .open
        .values()
        .map(|it| (it.resource.local.as_ref().map(Address::to_string), holder(it)))
        .collect();
    let has_both_ends = |it: &Lifetime| {
        it.resource.kind == Kind::Tcp
            && ours.contains(&(it.resource.remote.as_ref().map(Address::to_string), holder(it)))
    };
    let is_left = |it: &&Lifetime| {
        let is_settled = it.ended_with_process || it.opened <= ended;
        let is_theirs = it.accepted_by.is_some()
            && !(it.resource.state == Some(State::CloseWait)
                && (it.ended_with_process || report.to.seconds_since(it.last_seen) >= run.settle_seconds));
        counts(it) && !it.is_older_than_recording() && is_settled && !is_theirs && !has_both_ends(it)
    };
    let mut groups: BTreeMap<String, Vec<&Lifetime>> = BTreeMap::new();
    let mut allowed: BTreeMap<usize, Vec<LifetimeId>> = BTreeMap::new();
    for lifetime in report.population.open.values().filter(is_left) {
        let pool = run.allowed.iter().position(|pool| pool.covers(lifetime));
        if let Some(pool) = pool {
            let pooled = allowed.entry(pool).or_default();
            pooled.push(lifetime.id);
            if pooled.len() <= run.allowed[pool].most {
                continue;
            }
        }
        let group = lifetime.group();
        groups.entry(format!("{} {}", group.kind, group.endpoint)).or_default().push(lifetime);
    }
    let is_witnessed = |it: &&Lifetime| run.has_last_look || !it.ended_with_process;
    let mut found: Vec<Finding> = Vec::new();
    let mut leaked: Vec<LifetimeId> = Vec::new();
    for (subject, open) in &groups {
        let (witnessed, doubtful): (Vec<&Lifetime>, Vec<&Lifetime>) = open.iter().copied().partition(is_witnessed);
        if !witnessed.is_empty() {
            let text = format!(
                "{} left open at the end, by {}",
                connections(witnessed.len(), subject),
                who(report, &witnessed)
            );
            let mut finding = Finding::new(Verdict::Leak, subject, text);
            finding.since = witnessed.iter().map(|it| it.opened).min();
            finding.confidence = Some(WITNESSED);
            finding.evidence = witnessed.iter().map(|it| it.id.0.to_string()).collect();
            leaked.extend(witnessed.iter().map(|it| it.id));
            found.push(finding);
        }
        if !doubtful.is_empty() {
            let text = format!(
                "{} open when {} was last looked at, and maybe closed before its end: CAP_BPF and CAP_PERFMON, or sudo, let it be told; --every 50ms looks more often",
                connections(doubtful.len(), subject),
                who(report, &doubtful)
            );
            let mut finding = Finding::new(Verdict::Undecided, subject, text);
            finding.evidence = doubtful.iter().map(|it| it.id.0.to_string()).collect();
            found.push(finding);
        }
    }
    found.sort_by_key(|finding| (finding.kind, std::cmp::Reverse(finding.evidence.len())));
    if found.is_empty() {
        found.push(of_nothing(report, &run, &allowed));
    }
    let steps: Vec<String> = allowed
        .iter()
        .map(|(pool, open)| format!("--allow {}: {} are open at the end", run.allowed[*pool], open.len()))
        .chain([format!("what outlives the command was looked at again after {}", duration_words(run.settle_seconds))])
        .collect();
    found.iter_mut().for_each(|finding| finding.steps.extend(steps.iter().cloned()));
    let is_connection = |id: &LifetimeId| report.population.open.get(id).is_some_and(|it| it.resource.is_connection());
    report.judged.leak_probability.retain(|id, _| !is_connection(id));
    report.judged.leak_probability.extend(leaked.into_iter().map(|id| (id, WITNESSED)));
    // The end is known now: what was guessed of connections stands back. Other kinds stay judged as in any watch.
    let is_guess = |finding: &Finding| {
        let kind = finding.subject.split(' ').next().unwrap_or_default();
        finding.series.is_none() && ["tcp", "udp", "unix", "connections"].contains(&kind)
    };
    let findings = &mut report.judged.findings;
    findings.retain(|finding| !is_guess(finding));
    let others: Vec<Finding> =
        findings.extract_if(.., |it| !matches!(it.kind, Verdict::Leak | Verdict::Plateau)).collect();
    let place = if found[0].kind == Verdict::Leak { 0 } else { findings.len() };
    findings.splice(place..place, found);
    findings.extend(others);
}

/// Nothing was seen to be left.
fn of_nothing(report: &Report, run: &CommandRun, allowed: &BTreeMap<usize, Vec<LifetimeId>>) -> Finding {
    let was_seen = report.target.as_ref().is_some_and(|target| !target.processes.is_empty());
    if !run.has_last_look && !was_seen {
        let text =
            "the command was over before it could be looked at: CAP_BPF and CAP_PERFMON, or sudo, let its end be seen";
        return Finding::new(Verdict::Undecided, "connections", text);
    }
    let pools: Vec<String> = allowed
        .iter()
        .map(|(pool, open)| format!(" but for {} that --allow {} names", open.len(), run.allowed[*pool]))
        .collect();
    let text = format!("no connection that the command opened was left open at its end{}", pools.join(" and"));
    Finding::new(Verdict::Clean, "connections", text)
}

/// True of a connection to somewhere else.
fn counts(lifetime: &Lifetime) -> bool {
    let resource = &lifetime.resource;
    let is_reset = resource.kind == Kind::Tcp && resource.state == Some(State::Close);
    let is_household = |name: &str| HOUSEHOLD.iter().any(|prefix| name.trim_start_matches('@').starts_with(prefix));
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

fn connections(count: usize, subject: &str) -> String {
    let (things, were) = if count == 1 { ("connection", "was") } else { ("connections", "were") };
    format!("{count} {things} to {} {were}", subject.trim_end())
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
