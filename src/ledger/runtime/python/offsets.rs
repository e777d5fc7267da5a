//! Where CPython's structures have their fields, by version. Taken from the headers of 3.8.18, 3.9.18, 3.10.13, 3.11.7 and 3.12.1
//! (`offsetof`, 64 bits); within a minor version they stay. 3.13 publishes its own.

use super::super::SETTINGS_BYTES;
use super::lines::LineTable;

/// Offsets in bytes, in what the name begins with. Where only some versions have a field, 0 says that this one doesn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    /// `_PyRuntimeState`: the first interpreter.
    pub runtime_interpreters: u16,
    /// `PyInterpreterState`.
    pub interpreter_next: u16,
    /// `PyInterpreterState`: its first thread.
    pub interpreter_threads: u16,
    /// `PyThreadState`.
    pub thread_next: u16,
    /// `PyThreadState`: what `pthread_self` says.
    pub thread_id: u16,
    /// `PyThreadState`: what `gettid` says.
    pub thread_native_id: u16,
    /// `PyThreadState`: its innermost frame, or where the pointer to it stands.
    pub thread_frame: u16,
    /// Where `thread_frame` is a `_PyCFrame`: the frame in it.
    pub indirect_frame: Option<u16>,
    /// `PyFrameObject`, or `_PyInterpreterFrame` since 3.11.
    pub frame_code: u16,
    pub frame_previous: u16,
    /// The instruction's address; before 3.11 its number.
    pub frame_instruction: u16,
    pub frame_owner: u16,
    pub frame_is_entry: u16,
    /// The first of its local variables.
    pub frame_locals: u16,
    /// What a suspended frame has on its stack of values: an address behind the last, or how many.
    pub frame_top: u16,
    /// The stack of values begins at the address that stands here; with the locals where this is 0.
    pub frame_values: u16,
    /// `PyCodeObject`: the name, since 3.11 the qualified one.
    pub code_name: u16,
    pub code_file: u16,
    pub code_first_line: u16,
    pub code_lines: u16,
    /// The instructions, where they are in the code object itself.
    pub code_instructions: u16,
    /// The first instruction, by number, from which on a frame counts.
    pub code_first_traceable: u16,
    /// How lines are kept.
    pub lines: LineTable,
    /// `PyASCIIObject`: its size, behind which the text of an ASCII string begins.
    pub ascii_text: u16,
    /// `PyCompactUnicodeObject`: its size, the same of any other string.
    pub compact_text: u16,
    /// `PyCoroObject`: its frame, or the pointer to it before 3.11.
    pub coroutine_frame: u16,
    /// `TaskObj` of `_asyncio`.
    pub task_coroutine: u16,
    /// `TaskObj`: what it awaits.
    pub task_waiter: u16,
    /// A task's wake-up call: which task.
    pub wakeup_task: u16,
    /// `PyFunctionObject`.
    pub function_closure: u16,
}

const V3_8: Offsets = Offsets {
    runtime_interpreters: 32,
    interpreter_next: 0,
    interpreter_threads: 8,
    thread_next: 8,
    thread_id: 176,
    thread_native_id: 0,
    thread_frame: 24,
    indirect_frame: None,
    frame_code: 32,
    frame_previous: 24,
    frame_instruction: 104,
    frame_owner: 0,
    frame_is_entry: 0,
    frame_locals: 360,
    frame_top: 72,
    frame_values: 0,
    code_name: 112,
    code_file: 104,
    code_first_line: 40,
    code_lines: 120,
    code_instructions: 0,
    code_first_traceable: 0,
    lines: LineTable::Steps,
    ascii_text: 48,
    compact_text: 72,
    coroutine_frame: 16,
    task_coroutine: 112,
    task_waiter: 104,
    wakeup_task: 16,
    function_closure: 48,
};

const V3_9: Offsets = Offsets { task_coroutine: 152, task_waiter: 144, ..V3_8 };

const V3_10: Offsets = Offsets {
    frame_instruction: 96,
    frame_locals: 352,
    frame_top: 80,
    frame_values: 64,
    lines: LineTable::Ranges,
    task_coroutine: 160,
    task_waiter: 152,
    wakeup_task: 24,
    function_closure: 72,
    ..V3_9
};

const V3_11: Offsets = Offsets {
    runtime_interpreters: 40,
    interpreter_threads: 16,
    thread_id: 152,
    thread_native_id: 160,
    thread_frame: 56,
    indirect_frame: Some(8),
    frame_code: 32,
    frame_previous: 48,
    frame_instruction: 56,
    frame_owner: 69,
    frame_is_entry: 68,
    frame_locals: 72,
    frame_top: 64,
    frame_values: 0,
    code_name: 128,
    code_file: 112,
    code_first_line: 72,
    code_lines: 136,
    code_instructions: 184,
    code_first_traceable: 168,
    lines: LineTable::Locations,
    coroutine_frame: 80,
    task_coroutine: 136,
    task_waiter: 128,
    ..V3_10
};

const V3_12: Offsets = Offsets {
    interpreter_threads: 72,
    thread_id: 136,
    thread_native_id: 144,
    indirect_frame: Some(0),
    frame_code: 0,
    frame_previous: 8,
    frame_owner: 70,
    frame_is_entry: 0,
    code_first_line: 68,
    code_instructions: 192,
    code_first_traceable: 176,
    ascii_text: 40,
    compact_text: 56,
    coroutine_frame: 72,
    ..V3_11
};

const V3_13: Offsets = Offsets {
    runtime_interpreters: 632,
    interpreter_next: 7264,
    interpreter_threads: 7344,
    thread_id: 152,
    thread_native_id: 160,
    thread_frame: 72,
    indirect_frame: None,
    code_instructions: 200,
    code_first_traceable: 184,
    task_coroutine: 120,
    task_waiter: 112,
    ..V3_12
};

/// What 3.13 has at the start of `_PyRuntime`, as it is read: `_Py_DebugOffsets` of Include/internal/pycore_runtime.h.
pub(super) const PUBLISHED_BYTES: usize = 584;
const COOKIE: &[u8] = b"xdebugpy";

impl Offsets {
    /// Those of Python 3.`minor`; `published` is what stands at the start of its `_PyRuntime`. The error says why they are not known.
    pub(super) fn of(minor: u32, published: &[u8]) -> Result<Offsets, String> {
        match minor {
            8 => Ok(V3_8),
            9 => Ok(V3_9),
            10 => Ok(V3_10),
            11 => Ok(V3_11),
            12 => Ok(V3_12),
            13 => from_published(published).ok_or_else(|| "this build of Python 3.13 has other structures".to_owned()),
            _ => Err(format!("frames of Python 3.{minor} are not known here, those of 3.8 to 3.13 are")),
        }
    }

    /// As the kernel's side reads them: `struct python` of bpf/python.h.
    pub(super) fn settings(&self, places: &Places) -> Vec<u8> {
        let wide = [places.interpreters, places.handle_run, places.coroutine, places.generator, places.asend];
        let narrow = [
            self.interpreter_next,
            self.interpreter_threads,
            self.thread_next,
            self.thread_id,
            self.thread_frame,
            u16::from(self.indirect_frame.is_some()),
            self.indirect_frame.unwrap_or_default(),
            self.frame_code,
            self.frame_previous,
            self.frame_instruction,
            self.code_instructions,
            self.frame_owner,
            self.frame_is_entry,
            self.frame_locals,
            self.frame_top,
            u16::from(self.top_is_address()),
            self.frame_values,
            self.coroutine_frame,
            u16::from(self.coroutine_has_frame()),
            self.task_coroutine,
            self.task_waiter,
            self.wakeup_task,
            self.function_closure,
        ];
        let mut settings: Vec<u8> = wide.iter().flat_map(|word| word.to_ne_bytes()).collect();
        settings.extend(narrow.iter().flat_map(|half| half.to_ne_bytes()));
        debug_assert!(settings.len() <= SETTINGS_BYTES);
        settings
    }

    /// True where instructions are told by their addresses, and frames don't each have an evaluator of their own: since 3.11.
    pub(super) fn has_light_frames(&self) -> bool {
        self.frame_owner != 0
    }

    /// True where a suspended frame has the address behind the last of its values, not their number: before 3.10.
    fn top_is_address(&self) -> bool {
        self.lines == LineTable::Steps
    }

    /// True where a coroutine's frame is a part of it.
    fn coroutine_has_frame(&self) -> bool {
        self.has_light_frames()
    }
}

/// Addresses in one process; 0 where one is not known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Places {
    /// Of the pointer to the first interpreter.
    pub interpreters: u64,
    /// Of the code of asyncio's `Handle._run`.
    pub handle_run: u64,
    /// Of the types of coroutines, generators, and what steps an asynchronous generator.
    pub coroutine: u64,
    pub generator: u64,
    pub asend: u64,
}

fn from_published(bytes: &[u8]) -> Option<Offsets> {
    let wide = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes);
    let offset = |at: usize| u16::try_from(wide(at)?).ok().filter(|offset| *offset < 1 << 14);
    let is_free_threaded = wide(16)? != 0;
    if !bytes.starts_with(COOKIE) || is_free_threaded {
        return None;
    }
    let frame_locals = offset(256)?;
    let frame_owner = offset(264)?;
    Some(Offsets {
        runtime_interpreters: offset(40)?,
        interpreter_next: offset(64)?,
        interpreter_threads: offset(72)?,
        thread_next: offset(168)?,
        thread_frame: offset(184)?,
        thread_id: offset(192)?,
        thread_native_id: offset(200)?,
        frame_previous: offset(232)?,
        frame_code: offset(240)?,
        frame_instruction: offset(248)?,
        frame_locals,
        frame_owner,
        code_file: offset(280)?,
        code_name: offset(296)?,
        code_lines: offset(304)?,
        code_first_line: offset(312)?,
        code_instructions: offset(344)?,
        ascii_text: offset(560)?,
        ..V3_13
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_beyond_is_said() {
        assert!(Offsets::of(14, &[]).unwrap_err().contains("3.14"));
        assert!(Offsets::of(13, &[0; PUBLISHED_BYTES]).unwrap_err().contains("3.13"));
    }

    #[test]
    fn the_kernel_reads_as_many_bytes_as_its_structure_has() {
        assert_eq!(V3_11.settings(&Places::default()).len(), 5 * 8 + 23 * 2);
    }
}
