/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The frames of CPython at the moment of an event, in the context of the thread that runs them: which code objects, and at
 * which instruction. They are read as the interpreter has them, in any of its versions that src/ledger/runtime/python/offsets.rs
 * knows; names and lines are looked up later, for code objects live long.
 *
 * What is counted along a loop is kept in memory, not in registers, so that the verifier need not follow each value of it.
 * Functions that aren't static are verified once, whoever calls them.
 */
#pragma once

#include "kernel.h"

/* src/ledger/runtime/python/taken.rs has the same numbers. */
#define PYTHON_FRAMES_MAX 80      /* that are kept; */
#define PYTHON_FRAMES_SEEN_MAX 256 /* that are walked, so that the path's number is that of the whole path */
#define PYTHON_AWAITING_MAX 16
#define PYTHON_TASKS_MAX 6
#define PYTHON_THREADS_MAX 1024 /* that are looked at to find the thread's own */

/* Of a frame that is read at once: up to the last field that is needed, in all versions. */
#define PYTHON_WINDOW 112
#define PYTHON_WINDOW_MASK 127

/* Where things stand: src/ledger/runtime/python/offsets.rs fills it. An offset of 0 is a field that the version doesn't have. */
struct python {
	u64 interpreters; /* address of the pointer to the first interpreter */
	u64 handle_run;   /* the code of asyncio's Handle._run; 0: not known, or not asked for */
	u64 coroutine;    /* types */
	u64 generator;
	u64 asend;
	u16 interpreter_next;
	u16 interpreter_threads;
	u16 thread_next;
	u16 thread_id;
	u16 thread_frame;
	u16 indirect; /* 1: the thread has no pointer to the frame, but to what has it */
	u16 indirect_frame;
	u16 frame_code;
	u16 frame_previous;
	u16 frame_instruction;
	u16 code_instructions; /* 0: the frame has a number, not an address */
	u16 frame_owner;
	u16 frame_is_entry;
	u16 frame_locals;
	u16 frame_top;           /* of the stack of values: */
	u16 top_is_address;      /* its address, or a number of values */
	u16 frame_values; /* counted from the address that stands here; 0: from the first local */
	u16 coroutine_frame;
	u16 coroutine_has_frame; /* 1: it is in the coroutine itself, else its address */
	u16 task_coroutine;
	u16 task_waiter;
	u16 callback_task;
	u16 function_closure;
};

/* Flags of a frame. */
#define PYTHON_RUN_ENDS 1 /* it was called from C */
#define PYTHON_HANDLE 2   /* asyncio's Handle._run */
#define PYTHON_AWAITING 4 /* it doesn't run: a task that awaits the one before it */
#define PYTHON_TASK 8     /* the first of a task */

struct python_frame {
	u64 code;
	u32 instruction; /* bytes from the code's first, or the number that the frame has */
	u32 flags;
};

/* Flags of what was taken. */
#define PYTHON_NO_THREAD 1  /* the interpreter doesn't know this thread */
#define PYTHON_UNREADABLE 2 /* a frame could not be read: the rest is missing */

struct python_taken {
	u32 count;
	u32 beyond; /* frames that were seen and not kept */
	u32 flags;
	u32 unused;
	struct python_frame frames[PYTHON_FRAMES_MAX + PYTHON_AWAITING_MAX];
	/* From here on: while it is taken. */
	u64 hash;
	u64 thread;
	u64 interpreter;
	u64 frame;
	u64 inner; /* the frame that this one has called */
	u64 handle;
	u64 coroutine_frame; /* of the one that it runs */
	u64 task;
	u64 coroutine;
	u64 word;
	u8 window[PYTHON_WINDOW_MASK + 1 + sizeof(u64)];
};

/* Each thread's state, by its number: found once, and asked each time whether it is still that thread's. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, u64);
} python_threads SEC(".maps");

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct thread_struct___x86 {
	unsigned long fsbase;
};
struct task_struct___x86 {
	struct thread_struct___x86 thread;
};
#pragma clang attribute pop

static __always_inline u64 python_word(struct python_taken *to, u64 address)
{
	to->word = 0;
	bpf_probe_read_user(&to->word, sizeof(to->word), (void *)address);
	return to->word;
}

static __always_inline u64 python_field(struct python_taken *to, u16 offset)
{
	return *(u64 *)(to->window + (offset & PYTHON_WINDOW_MASK));
}

static __always_inline u8 python_byte(struct python_taken *to, u16 offset)
{
	return to->window[offset & PYTHON_WINDOW_MASK];
}

/* What pthread_self() says: the thread's number for the interpreter. */
static __always_inline u64 python_thread_id(void)
{
	struct task_struct___x86 *task = (void *)bpf_get_current_task_btf();

	return bpf_core_field_exists(task->thread.fsbase) ? BPF_CORE_READ(task, thread.fsbase) : 0;
}

/* The innermost frame of to->thread; 0: it runs none. */
static __always_inline u64 python_first_frame(struct python *at, struct python_taken *to)
{
	u64 frame = python_word(to, to->thread + at->thread_frame);

	return at->indirect && frame ? python_word(to, frame + at->indirect_frame) : frame;
}

enum python_search { FOUND, GO_ON, NOT_FOUND };

/* Looks whether to->thread is the one, and goes on to the next. Of two that have its number, the one counts that runs something. */
__noinline int python_try_thread(struct python *at, struct python_taken *to, u64 id)
{
	if (!at || !to || !to->interpreter)
		return NOT_FOUND;
	if (!to->thread) {
		to->interpreter = python_word(to, to->interpreter + at->interpreter_next);
		to->thread = to->interpreter ? python_word(to, to->interpreter + at->interpreter_threads) : 0;
		return GO_ON;
	}
	if (python_word(to, to->thread + at->thread_id) == id) {
		to->frame = python_first_frame(at, to);
		if (to->frame)
			return FOUND;
	}
	to->thread = python_word(to, to->thread + at->thread_next);
	return GO_ON;
}

/* Looks through all interpreters. */
static __always_inline bool python_find_thread(struct python *at, struct python_taken *to, u64 id)
{
	int search = GO_ON;

	to->interpreter = python_word(to, at->interpreters);
	to->thread = python_word(to, to->interpreter + at->interpreter_threads);
	for (int i = 0; i < PYTHON_THREADS_MAX && search == GO_ON; i++)
		search = python_try_thread(at, to, id);
	return search == FOUND;
}

static __always_inline void python_enter(struct python *at, struct python_taken *to)
{
	u64 thread = bpf_get_current_pid_tgid(), id = python_thread_id();
	u64 *known = bpf_map_lookup_elem(&python_threads, &thread);

	to->frame = 0;
	if (known) {
		to->thread = *known;
		if (python_word(to, to->thread + at->thread_id) == id) {
			to->frame = python_first_frame(at, to);
			if (to->frame)
				return;
		}
	}
	if (!id || !python_find_thread(at, to, id)) {
		to->flags |= PYTHON_NO_THREAD;
		return;
	}
	id = to->thread;
	bpf_map_update_elem(&python_threads, &thread, &id, BPF_ANY);
}

static __always_inline void python_mix(struct python_taken *to, u64 value)
{
	u64 hash = (to->hash ^ value) * 0x9e3779b97f4a7c15ULL;

	to->hash = hash ^ hash >> 29;
}

static __always_inline void python_keep(struct python_taken *to, u64 code, u32 instruction, u32 flags)
{
	u32 count = to->count;

	python_mix(to, code ^ (u64)instruction << 40);
	if (count >= PYTHON_FRAMES_MAX + PYTHON_AWAITING_MAX || (!(flags & PYTHON_AWAITING) && count >= PYTHON_FRAMES_MAX)) {
		to->beyond++;
		return;
	}
	to->frames[count].code = code;
	to->frames[count].instruction = instruction;
	to->frames[count].flags = flags;
	to->count = count + 1;
}

/* The instruction of the frame in the window. */
static __always_inline u32 python_instruction(struct python *at, struct python_taken *to, u64 code)
{
	u64 value = python_field(to, at->frame_instruction);

	return at->code_instructions ? (u32)(value - code - at->code_instructions) : (u32)value;
}

/* Keeps to->frame, and goes on to the one that called it; src/ledger/runtime/python/thread.rs does the same from outside. */
__noinline int python_step(struct python *at, struct python_taken *to)
{
	if (!at || !to || bpf_probe_read_user(to->window, PYTHON_WINDOW, (void *)to->frame))
		return 0;
	u64 code = python_field(to, at->frame_code);
	u32 flags = 0, count = to->count;

	if (at->frame_owner && python_byte(to, at->frame_owner) >= 3) {
		/* Put between C and what it calls; from 3.12 on. */
		if (count && count <= PYTHON_FRAMES_MAX)
			to->frames[count - 1].flags |= PYTHON_RUN_ENDS;
	} else {
		if (!at->frame_owner || (at->frame_is_entry && python_byte(to, at->frame_is_entry)))
			flags = PYTHON_RUN_ENDS;
		if (code && code == at->handle_run && !to->handle) {
			flags |= PYTHON_HANDLE;
			to->handle = to->frame;
			to->coroutine_frame = to->inner;
		}
		python_keep(to, code, python_instruction(at, to, code), flags);
		to->inner = to->frame;
	}
	to->frame = python_field(to, at->frame_previous);
	return 1;
}

/* asyncio's own structures, the same in all versions: Handle._callback, what is called when a future is done, and who asks for it. */
#define HANDLE_CALLBACK 24
#define STEP_TASK 16
#define FUTURE_CALLBACK 24
#define PARTIAL_ARGUMENTS 24
#define TUPLE_ITEMS 24
#define CELL_VALUE 16
#define ASEND_GENERATOR 16
#define OBJECT_TYPE 8
#define CELLS_MAX 6

static __always_inline u64 python_frame_of(struct python *at, struct python_taken *to, u64 coroutine)
{
	coroutine += at->coroutine_frame;
	return at->coroutine_has_frame ? coroutine : python_word(to, coroutine);
}

/* The task that the loop runs: by its coroutine, whose frame it is that Handle._run has called. */
__noinline int python_running_task(struct python *at, struct python_taken *to)
{
	if (!at || !to)
		return 0;
	u64 handle = python_word(to, to->handle + at->frame_locals);
	u64 callback = python_word(to, handle + HANDLE_CALLBACK);
	/* A first step, and one after what it awaited is done. */
	to->task = python_word(to, callback + STEP_TASK);
	if (python_frame_of(at, to, python_word(to, to->task + at->task_coroutine)) == to->coroutine_frame)
		return 1;
	to->task = python_word(to, callback + at->callback_task);
	return python_frame_of(at, to, python_word(to, to->task + at->task_coroutine)) == to->coroutine_frame;
}

/* The task that is woken when a future is done, if that is what it waits for. */
__noinline int python_is_awaited(struct python *at, struct python_taken *to, u64 future)
{
	if (!at || !to || !future)
		return 0;
	u64 task = python_word(to, python_word(to, future + FUTURE_CALLBACK) + at->callback_task);
	if (!task || python_word(to, task + at->task_waiter) != future)
		return 0;
	to->task = task;
	return 1;
}

/* Goes from to->task to the one that awaits it: at once, or through a future that wait_for or gather has put between. */
__noinline int python_awaiting_task(struct python *at, struct python_taken *to)
{
	if (!at || !to)
		return 0;
	u64 callback = python_word(to, to->task + FUTURE_CALLBACK);
	if (!callback)
		return 0;
	if (python_is_awaited(at, to, to->task))
		return 1;
	u64 arguments = python_word(to, callback + PARTIAL_ARGUMENTS);
	if (python_is_awaited(at, to, python_word(to, arguments + TUPLE_ITEMS)))
		return 1;
	u64 cells = python_word(to, callback + at->function_closure);
	for (int i = 0; i < CELLS_MAX; i++) {
		u64 cell = python_word(to, cells + TUPLE_ITEMS + i * sizeof(u64));
		if (python_is_awaited(at, to, python_word(to, cell + CELL_VALUE)))
			return 1;
	}
	return 0;
}

/* What the suspended frame in the window awaits. */
static __always_inline u64 python_awaited(struct python *at, struct python_taken *to, u64 frame)
{
	u64 top = python_field(to, at->frame_top);
	s32 count = top;

	if (!at->top_is_address) {
		if (count <= 0)
			return 0;
		top = (at->frame_values ? python_field(to, at->frame_values) : frame + at->frame_locals) + count * sizeof(u64);
	}
	return top ? python_word(to, top - sizeof(u64)) : 0;
}

/* Keeps the frame of to->coroutine, and goes on to the one that it awaits. */
__noinline int python_suspended(struct python *at, struct python_taken *to, u32 flags)
{
	if (!at || !to)
		return 0;
	u64 frame = python_frame_of(at, to, to->coroutine);
	if (!frame || bpf_probe_read_user(to->window, PYTHON_WINDOW, (void *)frame))
		return 0;
	u64 code = python_field(to, at->frame_code);
	python_keep(to, code, python_instruction(at, to, code), flags | PYTHON_AWAITING);
	to->coroutine = python_awaited(at, to, frame);
	if (!to->coroutine)
		return 0;
	u64 type = python_word(to, to->coroutine + OBJECT_TYPE);
	if (type == at->asend)
		to->coroutine = python_word(to, to->coroutine + ASEND_GENERATOR);
	return type && (type == at->coroutine || type == at->generator || type == at->asend);
}

/* The tasks that await the one that runs, innermost first, each with its coroutines from the outermost to the one that waits. */
static __always_inline void python_awaiting(struct python *at, struct python_taken *to)
{
	if (!python_running_task(at, to))
		return;
	for (int task = 0; task < PYTHON_TASKS_MAX && python_awaiting_task(at, to); task++) {
		u32 flags = PYTHON_TASK;
		to->coroutine = python_word(to, to->task + at->task_coroutine);
		for (int i = 0; i < PYTHON_AWAITING_MAX && python_suspended(at, to, flags); i++)
			flags = 0;
	}
}

/* The frames of this thread, innermost first. The number of the path that they are: never 0. */
__noinline u64 take_python(struct python *at, struct python_taken *to)
{
	if (!at || !to)
		return 0;
	to->count = 0;
	to->beyond = 0;
	to->flags = 0;
	to->hash = 0;
	to->inner = 0;
	to->handle = 0;
	python_enter(at, to);
	for (int i = 0; i < PYTHON_FRAMES_SEEN_MAX && to->frame; i++) {
		if (!python_step(at, to)) {
			to->flags |= PYTHON_UNREADABLE;
			break;
		}
	}
	if (to->handle)
		python_awaiting(at, to);
	return to->hash ? to->hash : 1;
}
