//! `doctor`: what can be seen here and what can't, and the least privilege that mends it.

use super::args::{DoctorArgs, DoctorForm};
use super::error::{Failure, exit};
use crate::ledger;
use crate::present::doctor;
use crate::sample::{ProcFs, ReadError, probe};
use std::io::{self, Write};

/// `unclosed doctor`. What is missing is no failure: telling it is what was asked for.
pub(crate) fn run(typed: &DoctorArgs) -> Result<u8, Failure> {
    let proc = ProcFs::system();
    let mut diagnosis = probe(&proc, typed.pid).map_err(|error| match error {
        ReadError::Gone(pid) => {
            let failure = Failure::from(ReadError::Gone(pid));
            failure.hint("pgrep -a NAME finds a process; where /proc is mounted with hidepid only root sees others'")
        }
        other => other.into(),
    })?;
    let of_ledger = ledger::probe(proc.root(), &diagnosis);
    diagnosis.probes.extend(of_ledger);
    let out = &mut io::BufWriter::new(io::stdout().lock());
    match typed.format {
        DoctorForm::Text => doctor::text(out, &diagnosis)?,
        DoctorForm::Json => writeln!(out, "{:#}", doctor::json(&diagnosis))?,
    }
    out.flush()?;
    Ok(exit::FINE)
}
