//! What the kernel's side takes of a thread (`struct python_taken` of bpf/python.h): the same bytes whoever has walked.

/// How many frames that run are kept.
pub(super) const FRAMES_MAX: usize = 80;

/// How many are walked at the most.
pub(super) const FRAMES_SEEN_MAX: usize = 256;

/// Of a frame: it was called from C, or it is the first of what was.
pub(super) const RUN_ENDS: u32 = 1;
/// Of a frame: asyncio's `Handle._run`.
pub(super) const HANDLE: u32 = 2;
/// Of a frame: it doesn't run, but awaits what does.
pub(super) const AWAITING: u32 = 4;
/// Of a frame that awaits: the outermost of its task, which comes first.
pub(super) const TASK: u32 = 8;

/// Of all: the interpreter doesn't know the thread, or has nothing to run on it.
pub(super) const NO_THREAD: u32 = 1;
/// Of all: a frame could not be read, and what is outside of it is missing.
pub(super) const UNREADABLE: u32 = 2;

const HEAD_BYTES: usize = 16;
const FRAME_BYTES: usize = 16;

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TakenFrame {
    /// The address of its code object.
    pub code: u64,
    /// Which instruction of it.
    pub instruction: u32,
    /// [`RUN_ENDS`] and those below it.
    pub flags: u32,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// The frames that run, innermost first.
    pub running: Vec<TakenFrame>,
    /// Those that await them, task by task from the one that awaits what runs, each outermost first.
    pub awaiting: Vec<TakenFrame>,
    /// How many more there were.
    pub beyond: u32,
    /// [`NO_THREAD`] and those below it.
    pub flags: u32,
}

impl Taken {
    /// Reads it; `None` where it is too short for what it says it has.
    pub(super) fn parse(bytes: &[u8]) -> Option<Taken> {
        let word = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
        let (count, beyond, flags) = (word(0)? as usize, word(4)?, word(8)?);
        let frames = bytes.get(HEAD_BYTES..)?.get(..count.checked_mul(FRAME_BYTES)?)?;
        let frame = |frame: &[u8]| {
            let half = |at: usize| frame.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
            let code = frame.first_chunk().copied().map(u64::from_ne_bytes)?;
            Some(TakenFrame { code, instruction: half(8)?, flags: half(12)? })
        };
        let frames: Option<Vec<TakenFrame>> = frames.chunks_exact(FRAME_BYTES).map(frame).collect();
        let (awaiting, running) = frames?.into_iter().partition(|frame: &TakenFrame| frame.flags & AWAITING != 0);
        Some(Taken { running, awaiting, beyond, flags })
    }

    /// The bytes that [`Taken::parse`] reads.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let frames = || self.running.iter().chain(&self.awaiting);
        let count = |frames: usize| u32::try_from(frames).unwrap_or(u32::MAX);
        let head = [count(frames().count()), self.beyond, self.flags, 0];
        let mut bytes: Vec<u8> = head.iter().flat_map(|word| word.to_ne_bytes()).collect();
        for frame in frames() {
            bytes.extend(frame.code.to_ne_bytes());
            bytes.extend(frame.instruction.to_ne_bytes());
            bytes.extend(frame.flags.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(running in 0..FRAMES_MAX, awaiting in 0..16_usize, beyond: u32, flags: u32) {
            let frame = |flags| move |n: usize| TakenFrame { code: n as u64 * 64, instruction: n as u32, flags };
            let taken = Taken {
                running: (0..running).map(frame(RUN_ENDS)).collect(),
                awaiting: (0..awaiting).map(frame(AWAITING)).collect(),
                beyond,
                flags,
            };
            prop_assert_eq!(Taken::parse(&taken.bytes()), Some(taken));
        }

        #[test]
        fn junk_is_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            Taken::parse(&bytes);
        }
    }
}
