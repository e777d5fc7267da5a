//! The frames of a thread that waits, read from outside: what `take_python` of bpf/python.h does in the kernel.

use super::super::super::process::Process;
use super::super::Thread;
use super::object::word;
use super::offsets::Offsets;
use super::taken::{FRAMES_MAX, FRAMES_SEEN_MAX, NO_THREAD, RUN_ENDS, Taken, TakenFrame, UNREADABLE};

/// How many threads are looked at, of how many interpreters.
const THREADS_MAX: usize = 4096;
const INTERPRETERS_MAX: usize = 64;

/// Where `struct pthread` has the number that `gettid` gives: in glibc and in musl.
const THREAD_TID: [u64; 2] = [720, 48];

/// Up to the last field of a frame that is read.
const WINDOW_BYTES: usize = 112;

/// From here on whoever owns a frame is C itself: it only marks where C has called.
const OWNED_BY_C: u8 = 3;

/// The frames of a thread of the process whose `_PyRuntime` is at `runtime`.
pub(super) fn frames_of(process: &Process, offsets: &Offsets, runtime: u64, thread: Thread) -> Taken {
    let mut taken = Taken::default();
    let Some(mut frame) = state_of(process, offsets, runtime, thread).and_then(|at| first_frame(process, offsets, at))
    else {
        taken.flags = NO_THREAD;
        return taken;
    };
    for _ in 0..FRAMES_SEEN_MAX {
        if frame == 0 {
            break;
        }
        let mut window = [0; WINDOW_BYTES];
        if process.read(frame, &mut window).is_err() {
            taken.flags |= UNREADABLE;
            break;
        }
        frame = step(offsets, &window, &mut taken);
    }
    taken
}

/// Keeps the frame in the window; the address of the one that called it.
fn step(offsets: &Offsets, window: &[u8; WINDOW_BYTES], taken: &mut Taken) -> u64 {
    let wide = |at: u16| {
        window.get(usize::from(at)..).and_then(|rest| rest.first_chunk().copied()).map_or(0, u64::from_ne_bytes)
    };
    let byte = |at: u16| window.get(usize::from(at)).copied().unwrap_or(0);
    if offsets.has_light_frames() && byte(offsets.frame_owner) >= OWNED_BY_C {
        if let Some(last) = taken.running.last_mut().filter(|_| taken.beyond == 0) {
            last.flags |= RUN_ENDS;
        }
        return wide(offsets.frame_previous);
    }
    let code = wide(offsets.frame_code);
    let is_entry = offsets.frame_is_entry != 0 && byte(offsets.frame_is_entry) != 0;
    let ends = !offsets.has_light_frames() || is_entry;
    if taken.running.len() < FRAMES_MAX {
        let first = code.wrapping_add(offsets.code_instructions.into());
        let number = wide(offsets.frame_instruction);
        // A frame's number is of 32 bits, and so is how far an instruction may be from the first.
        let instruction = if offsets.has_light_frames() { number.wrapping_sub(first) } else { number } as u32;
        taken.running.push(TakenFrame { code, instruction, flags: if ends { RUN_ENDS } else { 0 } });
    } else {
        taken.beyond += 1;
    }
    wide(offsets.frame_previous)
}

/// The innermost frame of the thread with this state; `None` where it runs none.
fn first_frame(process: &Process, offsets: &Offsets, state: u64) -> Option<u64> {
    let at = word(process, state + u64::from(offsets.thread_frame)).filter(|at| *at != 0)?;
    let frame = match offsets.indirect_frame {
        Some(offset) => word(process, at + u64::from(offset))?,
        None => at,
    };
    (frame != 0).then_some(frame)
}

/// The state of a thread, among all of all interpreters.
fn state_of(process: &Process, offsets: &Offsets, runtime: u64, thread: Thread) -> Option<u64> {
    let mut interpreter = word(process, runtime + u64::from(offsets.runtime_interpreters))?;
    for _ in 0..INTERPRETERS_MAX {
        if interpreter == 0 {
            break;
        }
        let mut state = word(process, interpreter + u64::from(offsets.interpreter_threads))?;
        for _ in 0..THREADS_MAX {
            if state == 0 {
                break;
            }
            if is_state_of(process, offsets, state, thread)? && first_frame(process, offsets, state).is_some() {
                return Some(state);
            }
            state = word(process, state + u64::from(offsets.thread_next))?;
        }
        interpreter = word(process, interpreter + u64::from(offsets.interpreter_next))?;
    }
    None
}

/// True for the state of this thread: its number is that of `pthread_self`, or of `gettid`.
fn is_state_of(process: &Process, offsets: &Offsets, state: u64, thread: Thread) -> Option<bool> {
    if offsets.thread_native_id != 0 && thread.fsbase.is_none() {
        let native = word(process, state + u64::from(offsets.thread_native_id))?;
        return Some(native == u64::from(thread.tid_inside));
    }
    let id = word(process, state + u64::from(offsets.thread_id))?;
    if let Some(fsbase) = thread.fsbase {
        return Some(id == fsbase);
    }
    // It is the address of what the C library knows of the thread.
    let has_tid_at =
        |at: &u64| word(process, id.wrapping_add(*at)).is_some_and(|word| word as u32 == thread.tid_inside);
    Some(THREAD_TID.iter().any(has_tid_at))
}
