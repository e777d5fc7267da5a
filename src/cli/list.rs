//! `list`: one look at what is open.

use super::args::{ListArgs, ListForm};
use super::error::{Failure, exit};
use super::{options, talk};
use crate::analyse::Census;
use crate::model::{Address, Kind, Lifetime, Population, Target, Timestamp};
use crate::present::{json, list};
use crate::sample::{Depth, ProcFs, Resolver, Sampler};
use std::io::{self, BufWriter, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long names may take in all; what has none by then is printed as a number.
const RESOLVE_LIMIT: Duration = Duration::from_secs(3);
/// How long the search for the other ends of Unix sockets and pipes may take.
const PEERS_LIMIT: Duration = Duration::from_secs(3);

/// `unclosed list`.
pub(crate) fn run(typed: &ListArgs) -> Result<u8, Failure> {
    if typed.selector.is_empty() {
        return Err(
            Failure::usage("list needs a process").hint("unclosed list -p PID, or -c NAME, -u USER, --unit UNIT")
        );
    }
    let proc = ProcFs::system();
    let mut processes = options::target(&proc, &typed.selector)?;
    let members = processes.members();
    // Standard output by itself makes a system call of every line.
    let out = &mut BufWriter::new(io::stdout().lock());
    if typed.terse {
        for member in &members {
            writeln!(out, "{}", member.pid)?;
        }
        out.flush()?;
        return Ok(exit::FINE);
    }
    if typed.count {
        let counts = members.iter().map(|member| proc.descriptor_count(member.pid));
        let count = counts.sum::<Option<u64>>();
        let unknown = || {
            Failure::new("how many descriptors it has is closed to us").hint("run it as that process' user, or by sudo")
        };
        writeln!(out, "{}", count.ok_or_else(unknown)?)?;
        out.flush()?;
        return Ok(exit::FINE);
    }
    let mut sampler = Sampler::new(&proc, typed.source.into(), Depth::Details)?;
    let at = Timestamp(0) + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut snapshot = sampler.sample(&members, at);
    if !snapshot.unreadable.is_empty() && snapshot.processes.is_empty() {
        return Err(Failure::new(snapshot.unseen.join("; ")));
    }
    if snapshot.processes.is_empty() {
        return Err(Failure::no_target("the process ended before anything was seen"));
    }
    sampler.find_peers(&mut snapshot, PEERS_LIMIT);
    for unseen in &snapshot.unseen {
        talk(&format!("unclosed: {unseen}"));
    }
    let mut tick = Census::new(Duration::from_secs(1)).advance(&snapshot, &Population::default());
    tick.opened.retain(|lifetime| is_wanted(typed, lifetime));
    let name = snapshot.processes.first().map(|process| process.name.clone()).unwrap_or_default();
    let target = Target { name, processes: tick.started.into_iter().collect() };
    let names = if typed.resolve { Some(resolve(&tick.opened)) } else { None };
    let address = |address: &Address| names.as_ref().map_or_else(|| address.to_string(), |names| names.name(address));
    match typed.format {
        ListForm::Table => list::text(out, &target, &tick.opened, &address)?,
        ListForm::Csv => list::csv(out, &target, &tick.opened, &address)?,
        ListForm::Json => writeln!(out, "{:#}", json::list(&target, at, &tick.opened))?,
        ListForm::Jsonl => {
            for lifetime in &tick.opened {
                writeln!(out, "{}", json::listed(lifetime, &target))?;
            }
        }
    }
    out.flush()?;
    Ok(exit::FINE)
}

/// Sockets unless told otherwise; kinds are ORed.
fn is_wanted(typed: &ListArgs, lifetime: &Lifetime) -> bool {
    let kind = lifetime.resource.kind;
    match (typed.all, typed.internet, typed.unix) {
        (true, _, _) => true,
        (_, false, false) => {
            kind.is_internet() || matches!(kind, Kind::Unix | Kind::Raw | Kind::Socket | Kind::Netlink | Kind::Packet)
        }
        (_, internet, unix) => (internet && kind.is_internet()) || (unix && kind == Kind::Unix),
    }
}

fn resolve(open: &[Lifetime]) -> Resolver {
    let mut names = Resolver::start();
    for address in open.iter().flat_map(|it| it.resource.local.iter().chain(&it.resource.remote)) {
        names.request(address);
    }
    let missing = names.wait(RESOLVE_LIMIT);
    if missing > 0 {
        talk(&format!("unclosed: {missing} names took longer than {} s: shown as numbers", RESOLVE_LIMIT.as_secs()));
    }
    names
}
