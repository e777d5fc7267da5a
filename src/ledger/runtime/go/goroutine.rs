//! What the kernel side took of a goroutine (`bpf/go.h`), and where things stand in one.
//!
//! Go doesn't publish this. It is learned from the program itself, whatever its version: from the code that switches to a
//! goroutine, and from the first goroutines that are seen. Source of the order of fields: `src/runtime/runtime2.go`.

use super::memory::Pages;
use super::table::Table;

/// How many frames and how many words of the goroutine are taken: `GO_CALLERS`, `GO_WORDS`.
const CALLERS_MAX: usize = 64;
const WORDS: usize = 64;

/// `struct go_taken` before its frames: goroutine, number of frames, whether there are more.
const HEAD_BYTES: usize = 16;

/// Where in a goroutine its registers stand while it doesn't run (`g.sched`).
const REGISTERS: u32 = 56;

/// Where in a thread's record (`m`) its goroutine stands, without the registers that stand before it.
const CURRENT_BASE: u32 = 136;

/// Before it stand what no version has moved, and what is no address of code: the place of the `go` statement is behind.
const CREATOR_MIN: usize = 20;

/// How many bytes of the code that switches are looked at.
const SWITCH_BYTES: usize = 48;

/// What is to be known for taking a goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Where its address stands, from the thread's own pointer.
    pub thread_offset: i64,
    /// Where its frame pointer stands in it while it doesn't run.
    pub frame_pointer: u32,
    /// Where a thread's record has the goroutine that it runs.
    pub current: u32,
    /// Where it has the place of the `go` statement that started it; 0 until one has been seen.
    pub creator: u32,
}

impl Default for Layout {
    /// That of Go 1.17 to 1.24 in a program that has no other variables of threads.
    fn default() -> Self {
        Layout { thread_offset: -8, frame_pointer: REGISTERS + 48, current: CURRENT_BASE + 56, creator: 0 }
    }
}

impl Layout {
    /// Learns it from the code that switches to a goroutine (`gogo`): it stores the goroutine's address for the thread, and
    /// loads its frame pointer, the last of its registers.
    pub(super) fn of(memory: &Pages<'_>, switch: u64) -> Option<Self> {
        let code: [u8; SWITCH_BYTES] = memory.bytes(switch)?;
        let number = |at: usize| code.get(at..).and_then(<[u8]>::first_chunk).copied().map(i32::from_le_bytes);
        let find = |pattern: &[u8]| code.windows(pattern.len()).position(|bytes| bytes == pattern);
        // mov %rdx,%fs:NUMBER; mov $NUMBER,%rcx; mov NUMBER(%rip),%rcx before mov %rdx,%fs:(%rcx).
        let thread_offset = if let Some(at) = find(&[0x64, 0x48, 0x89, 0x14, 0x25]) {
            i64::from(number(at + 5)?)
        } else {
            let store = find(&[0x64, 0x48, 0x89, 0x11])?;
            let load = store.checked_sub(7)?;
            match code.get(load..load + 3)? {
                [0x48, 0xc7, 0xc1] => i64::from(number(load + 3)?),
                [0x48, 0x8b, 0x0d] => {
                    let next = switch.checked_add(store as u64)?;
                    memory.word(next.checked_add_signed(i64::from(number(load + 3)?))?)?.cast_signed()
                }
                _ => return None,
            }
        };
        // mov NUMBER(%rbx),%rbp
        let load = find(&[0x48, 0x8b, 0x6b])?;
        let last = u32::from(*code.get(load + 3)?);
        let layout = Layout {
            thread_offset,
            frame_pointer: REGISTERS + last,
            current: CURRENT_BASE + last + 8,
            ..Layout::default()
        };
        (last.is_multiple_of(8) && last < 128).then_some(layout)
    }

    /// `struct go`.
    pub(super) fn bytes(self) -> Vec<u8> {
        let mut bytes = self.thread_offset.to_ne_bytes().to_vec();
        let fields = [self.frame_pointer, self.current, self.creator, 0];
        bytes.extend(fields.iter().flat_map(|field| field.to_ne_bytes()));
        bytes
    }
}

/// A goroutine at the moment of an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Where each of its frames returns to, innermost first.
    pub callers: Vec<u64>,
    /// True where there are more.
    pub is_cut: bool,
    /// The goroutine's first words.
    words: Vec<u64>,
}

impl Taken {
    /// Reads `struct go_taken`; `None` where the thread ran no goroutine.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let half = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map(u32::from_ne_bytes);
        let words = |from: usize, count: usize| -> Option<Vec<u64>> {
            let bytes = bytes.get(from..from + 8 * count)?;
            Some(bytes.chunks_exact(8).filter_map(|word| word.try_into().ok().map(u64::from_ne_bytes)).collect())
        };
        let goroutine = words(0, 1)?;
        let count = (half(8)? as usize).min(CALLERS_MAX);
        let taken = Taken {
            callers: words(HEAD_BYTES, count)?,
            is_cut: half(12)? != 0,
            words: words(HEAD_BYTES + 8 * CALLERS_MAX, WORDS)?,
        };
        (goroutine != [0]).then_some(taken)
    }

    /// Where in a goroutine the place of the `go` statement stands: two words before the entry of the function that it started.
    /// `bottom` is the entry of the outermost function of this one's stack.
    pub(super) fn creator_offset(&self, memory: &Pages<'_>, table: &Table, bottom: u64) -> Option<u32> {
        let words = self.words.iter().enumerate();
        let mut started = words.filter(|(index, word)| *index >= CREATOR_MIN + 2 && **word == bottom);
        let creator = started.find_map(|(index, _)| {
            let creator = *self.words.get(index - 2)?;
            table.function_at(memory, creator.checked_sub(1)?).map(|_| index - 2)
        })?;
        u32::try_from(8 * creator).ok()
    }

    /// The word at a place in the goroutine.
    pub(super) fn word(&self, offset: u32) -> Option<u64> {
        self.words.get(offset as usize / 8).copied()
    }
}
