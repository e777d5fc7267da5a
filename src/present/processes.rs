//! What each process of a target holds: its row where there are several.

use super::table::{self, Align, printable};
use super::text::moment;
use crate::model::{Lifetime, LifetimeId, Process, ProcessKey, Report};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Rows of the table; the rest is counted.
const ROWS_MAX: usize = 20;

/// What one process holds open. A resource that it shares with others counts whole with each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Its descriptors.
    pub(super) descriptors: u64,
    /// Its connections, each once however many of its descriptors refer to it.
    pub(super) connections: u64,
    /// What of its resources is called leaked.
    pub(super) leaked: u64,
}

/// The share of each process of a report.
pub(super) fn shares(report: &Report) -> BTreeMap<ProcessKey, Share> {
    let is_leaked = |id| report.judged.is_leaked(id);
    shares_of(report.population.open.values(), is_leaked)
}

/// The share of each process in what is open. Of one that has ended it is what it held at its end. It has none where that is
/// no longer known, or never was: of a process that is closed to us nobody says what it holds.
pub(super) fn shares_of<'a>(
    open: impl IntoIterator<Item = &'a Lifetime>,
    is_leaked: impl Fn(LifetimeId) -> bool,
) -> BTreeMap<ProcessKey, Share> {
    let mut shares: BTreeMap<ProcessKey, Share> = BTreeMap::new();
    for lifetime in open {
        // Holders of one process stand side by side.
        for held in lifetime.holders.chunk_by(|a, b| a.process == b.process) {
            let share = shares.entry(held[0].process).or_default();
            share.descriptors += held.len() as u64;
            share.connections += u64::from(lifetime.resource.is_connection());
            share.leaked += u64::from(is_leaked(lifetime.id));
        }
    }
    shares
}

/// A row for each process of several, those first that leaked most.
pub(super) fn write(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let Some(target) = report.target.as_ref().filter(|target| target.processes.len() > 1) else { return Ok(()) };
    let shares = shares(report);
    let mut rows: Vec<(Option<&Share>, &Process)> =
        target.processes.iter().map(|(key, process)| (shares.get(key), process)).collect();
    rows.sort_by_key(|(share, process)| {
        (Reverse(share.map(|it| (it.leaked, it.connections))), process.ended.is_some(), process.started, process.id.pid)
    });
    let cells: Vec<Vec<String>> = rows.iter().take(ROWS_MAX).map(|(share, process)| row(*share, process)).collect();
    let columns = [
        ("PID", Align::Right),
        ("NAME", Align::Left),
        ("USER", Align::Left),
        ("DESCRIPTORS", Align::Right),
        ("CONNECTIONS", Align::Right),
        ("LEAKED", Align::Right),
        ("STARTED", Align::Left),
        ("ENDED", Align::Left),
    ];
    table::write(out, &columns, &cells, 2)?;
    if let Some((share, _)) = rows.get(ROWS_MAX) {
        let most = share.map(|it| format!(", each with {} leaked or fewer", it.leaked)).unwrap_or_default();
        writeln!(out, "  ... {} more{most}: unclosed show {} -o json", rows.len() - ROWS_MAX, printable(&report.file))?;
    }
    let shared = report.population.open.values().filter(|it| is_shared(it)).count();
    if shared > 0 {
        writeln!(
            out,
            "  {shared} of the resources are held by several of them: each counts in every row, and once in all."
        )?;
    }
    Ok(())
}

fn row(share: Option<&Share>, process: &Process) -> Vec<String> {
    let count = |of: fn(&Share) -> u64| share.map(|share| of(share).to_string()).unwrap_or_default();
    vec![
        process.id.pid.to_string(),
        process.name.clone(),
        process.user.clone(),
        count(|it| it.descriptors),
        count(|it| it.connections),
        count(|it| it.leaked),
        moment(process.started),
        process.ended.map(moment).unwrap_or_default(),
    ]
}

/// True where more than one process holds it.
fn is_shared(lifetime: &Lifetime) -> bool {
    lifetime.holders.windows(2).any(|pair| pair[0].process != pair[1].process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Address, Holder, Identity, Judged, Kind, Population, ProcessId, Resource, Target, Timestamp};

    fn process(pid: u32, ended: Option<i64>) -> (ProcessKey, Process) {
        let id = ProcessId { boot_id: "boot".into(), pid, start_ticks: 1 };
        let (name, user) = ("worker".to_owned(), "web".to_owned());
        let started = Timestamp(i64::from(pid));
        (
            ProcessKey(pid),
            Process { id, command: name.clone(), name, uid: 33, user, started, ended: ended.map(Timestamp) },
        )
    }

    /// A connection that these descriptors refer to, as pairs of process and number.
    fn connection(id: u64, holders: &[(u32, i32)]) -> Lifetime {
        let mut resource = Resource::new(Identity(id, 0), Kind::Tcp);
        resource.remote = Some(Address::Unix("peer".into()));
        let holder = |&(process, fd): &(u32, i32)| Holder { process: ProcessKey(process), fd, access: None };
        Lifetime {
            id: LifetimeId(id),
            resource,
            holders: holders.iter().map(holder).collect(),
            accepted_by: None,
            opened_after: None,
            opened: Timestamp(0),
            opened_exact: false,
            last_seen: Timestamp(0),
            last_active: None,
            closed: None,
            ended_with_process: false,
            opener: None,
            last_use: None,
        }
    }

    fn report(processes: Vec<(ProcessKey, Process)>, open: Vec<Lifetime>, leaked: &[u64]) -> Report {
        Report {
            target: Some(Target { name: "worker".into(), processes: processes.into_iter().collect() }),
            population: Population::restore(open, Vec::new(), BTreeMap::new()),
            judged: Judged {
                leak_probability: leaked.iter().map(|id| (LifetimeId(*id), 0.9)).collect(),
                ..Judged::default()
            },
            ..Report::default()
        }
    }

    #[test]
    fn what_is_shared_counts_with_each_that_holds_it() {
        let open = vec![connection(1, &[(1, 3), (1, 4), (2, 3)]), connection(2, &[(2, 9)]), connection(3, &[(4, 7)])];
        let processes =
            vec![process(1, None), process(2, None), process(3, None), process(4, Some(9)), process(5, Some(9))];
        let report = report(processes, open, &[2]);
        let share = |descriptors, connections, leaked| Some(Share { descriptors, connections, leaked });
        let shares = shares(&report);
        let of = |key| shares.get(&ProcessKey(key)).copied();
        assert_eq!([of(1), of(2)], [share(2, 1, 0), share(2, 2, 1)]);
        assert_eq!([of(3), of(4), of(5)], [None, share(1, 1, 0), None], "not known, at its end, not known any more");
        let mut out = Vec::new();
        write(&mut out, &report).expect("memory takes it");
        let out = String::from_utf8(out).expect("text");
        let order: Vec<&str> = out.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(order, ["2", "1", "4", "3", "5", "1"], "{out}");
        assert!(out.contains("1 of the resources are held by several"), "{out}");
    }

    #[test]
    fn one_process_has_no_table_and_many_are_cut() {
        let table = |count: u32| {
            let mut out = Vec::new();
            let processes = (1..=count).map(|pid| process(pid, None)).collect();
            write(&mut out, &report(processes, Vec::new(), &[])).expect("memory takes it");
            String::from_utf8(out).expect("text")
        };
        assert_eq!(table(1), "");
        assert_eq!(table(2).lines().count(), 3);
        assert_eq!(table(50).lines().count(), 1 + ROWS_MAX + 1);
        assert!(table(50).contains("... 30 more"), "{}", table(50));
    }
}
