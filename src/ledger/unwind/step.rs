//! From a frame to its caller, by the table of its function (DWARF 5, 6.4: Call Frame Information).

use super::registers::{Copied, Known, RETURN, RETURNS_BY_REGISTER, SP, without_signature};
use super::tables::{Piece, Section, Table};
use gimli::{
    CfaRule, EvaluationResult, FrameDescriptionEntry, Location, RegisterRule, UnwindContext, UnwindExpression,
};
use gimli::{UnwindSection, UnwindTableRow, Value};

/// The caller of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// Its registers.
    pub known: Known,
    /// True where a signal came in between, so that its address isn't one that a call returns to.
    pub is_interrupted: bool,
}

/// Why a frame has no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is the outermost one.
    Outermost,
    /// Nothing is said of this address.
    Uncovered,
    /// A register that is needed isn't known.
    RegisterUnknown,
    /// What is needed stands at this address, which wasn't copied.
    NotCopied(u64),
    /// The tables say what can't be.
    Nonsense,
}

/// How many pieces of an expression are run at the most; real ones ask for two or three words.
const ASKED_MAX: usize = 32;

/// The caller of a frame whose function has a table. `address` is the frame's as the file has it.
pub(super) fn by_table(table: &Table<'_>, address: u64, known: &Known, copied: Copied<'_>) -> Result<Caller, Stop> {
    match table.section {
        Section::Eh(section) => within(&section, table, address, known, copied),
        Section::Debug(section) => within(&section, table, address, known, copied),
    }
}

/// The first address of the function that covers an address, as its table has it.
pub(super) fn function_start(table: &Table<'_>, address: u64) -> Option<u64> {
    fn start<'a, S: UnwindSection<Piece<'a>>>(section: &S, table: &Table<'_>, address: u64) -> Option<u64> {
        let entry = entry(section, table)?;
        entry.contains(address).then(|| entry.initial_address())
    }
    match table.section {
        Section::Eh(section) => start(&section, table, address),
        Section::Debug(section) => start(&section, table, address),
    }
}

fn entry<'a, S: UnwindSection<Piece<'a>>>(section: &S, table: &Table<'_>) -> Option<FrameDescriptionEntry<Piece<'a>>> {
    section.fde_from_offset(table.bases, S::Offset::from(table.offset), S::cie_from_offset).ok()
}

fn within<'a, S>(
    section: &S,
    table: &Table<'_>,
    address: u64,
    known: &Known,
    copied: Copied<'_>,
) -> Result<Caller, Stop>
where
    S: UnwindSection<Piece<'a>>,
{
    let Some(entry) = entry(section, table).filter(|entry| entry.contains(address)) else {
        return Err(Stop::Uncovered);
    };
    let mut context = UnwindContext::new();
    let Ok(row) = entry.unwind_info_for_address(section, table.bases, &mut context, address) else {
        return Err(Stop::Nonsense);
    };
    let rules = Rules { section, encoding: entry.cie().encoding(), known, copied };
    rules.caller(row, entry.is_signal_trampoline())
}

/// What the rules of one row are run with.
struct Rules<'r, S> {
    section: &'r S,
    encoding: gimli::Encoding,
    known: &'r Known,
    copied: Copied<'r>,
}

impl<'a, S: UnwindSection<Piece<'a>>> Rules<'_, S> {
    fn caller(&self, row: &UnwindTableRow<usize>, is_interrupted: bool) -> Result<Caller, Stop> {
        // An expression that runs beside the address of the frame, `CFA`, has it as its first operand.
        let frame = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.known.get(register.0).ok_or(Stop::RegisterUnknown)?.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => self.run(expression, None)?,
        };
        let returns_to = match row.register(gimli::Register(RETURN)) {
            Some(RegisterRule::Undefined) => return Err(Stop::Outermost),
            None if !RETURNS_BY_REGISTER => return Err(Stop::Outermost),
            None => self.known.get(RETURN).ok_or(Stop::RegisterUnknown)?,
            Some(rule) => self.value(RETURN, &rule, frame)?,
        };
        let returns_to = without_signature(returns_to);
        if returns_to == 0 {
            return Err(Stop::Outermost);
        }
        let mut caller = *self.known;
        for (register, rule) in row.registers() {
            // One that can't be had is unknown; only where it is needed, that is the end.
            caller.set(register.0, self.value(register.0, rule, frame).ok());
        }
        caller.ip = returns_to;
        caller.sp = match row.register(gimli::Register(SP)) {
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => frame,
            Some(rule) => self.value(SP, &rule, frame)?,
        };
        let has_moved = caller.sp > self.known.sp || (caller.sp == self.known.sp && caller.ip != self.known.ip);
        // A handler may run on a stack of its own.
        if has_moved || is_interrupted { Ok(Caller { known: caller, is_interrupted }) } else { Err(Stop::Nonsense) }
    }

    /// What a register was in the caller.
    fn value(&self, register: u16, rule: &RegisterRule<usize>, frame: u64) -> Result<u64, Stop> {
        match rule {
            RegisterRule::SameValue => self.known.get(register).ok_or(Stop::RegisterUnknown),
            RegisterRule::Offset(offset) => self.word(frame.wrapping_add_signed(*offset)),
            RegisterRule::ValOffset(offset) => Ok(frame.wrapping_add_signed(*offset)),
            RegisterRule::Register(other) => self.known.get(other.0).ok_or(Stop::RegisterUnknown),
            RegisterRule::Expression(expression) => self.word(self.run(expression, Some(frame))?),
            RegisterRule::ValExpression(expression) => self.run(expression, Some(frame)),
            RegisterRule::Constant(value) => Ok(*value),
            RegisterRule::Undefined | RegisterRule::Architectural => Err(Stop::RegisterUnknown),
        }
    }

    fn word(&self, address: u64) -> Result<u64, Stop> {
        self.copied.word(address).ok_or(Stop::NotCopied(address))
    }

    /// Runs an expression, with the address of the frame before it where it is one for a register.
    fn run(&self, expression: &UnwindExpression<usize>, frame: Option<u64>) -> Result<u64, Stop> {
        let expression = expression.get(self.section).map_err(|_| Stop::Nonsense)?;
        let mut evaluation = expression.evaluation(self.encoding);
        evaluation.set_max_iterations(1000);
        if let Some(frame) = frame {
            evaluation.set_initial_value(frame);
        }
        let mut result = evaluation.evaluate();
        for _ in 0..ASKED_MAX {
            result = match result.map_err(|_| Stop::Nonsense)? {
                EvaluationResult::Complete => {
                    let pieces = evaluation.as_result();
                    let Some(Location::Address { address }) = pieces.first().map(|piece| &piece.location) else {
                        return Err(Stop::Nonsense);
                    };
                    return Ok(*address);
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = self.known.get(register.0).ok_or(Stop::RegisterUnknown)?;
                    evaluation.resume_with_register(Value::Generic(value))
                }
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    evaluation.resume_with_memory(Value::Generic(self.word(address)?))
                }
                _ => return Err(Stop::Nonsense),
            };
        }
        Err(Stop::Nonsense)
    }
}
