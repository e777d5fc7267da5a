//! What processes of a command held as they ended, as the model has it.

use super::iterator::{Ended, Held, LastLook, Row};
use super::pass::connection;
use super::procfs::{ProcFs, user_name};
use crate::model::{Ending, HeldAtEnd, Process, ProcessId, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;

/// Those that have ended since the last call. `known` are those that ticks have read.
pub(super) fn endings(
    looks: &mut LastLook,
    proc: &ProcFs,
    known: &HashMap<ProcessId, Process>,
    now: Timestamp,
) -> Vec<Ending> {
    let clock = clock_gettime(ClockId::Boottime);
    let since_boot = clock.tv_sec as f64 + clock.tv_nsec as f64 / 1e9;
    let file_of = |held: &Held| held.row().map(Row::file);
    let ending = |it: Ended| {
        let id = proc.name_of(it.pid, it.started);
        let known = known.get(&id).cloned();
        let process = known.unwrap_or_else(|| Process {
            started: proc.started(&id),
            command: it.name.clone(),
            name: it.name,
            uid: it.uid,
            user: user_name(it.uid).unwrap_or_else(|| it.uid.to_string()),
            ended: None,
            id,
        });
        let held = it.held.iter().filter_map(|held| {
            let (resource, fd, access) = connection(held)?;
            let same = it.held.iter().filter(|other| file_of(other) == file_of(held));
            Some(HeldAtEnd {
                resource,
                fd,
                access,
                opened_by_it: held.is_opened_by_it(),
                accepted: held.is_accepted(),
                shared: held.references() as usize > same.count(),
            })
        });
        let age = std::time::Duration::from_secs_f64((since_boot - it.at as f64 / 1e9).max(0.0));
        Ending { at: now - age, killed: it.killed, held: held.collect(), process }
    };
    looks.take().into_iter().map(ending).collect()
}
