/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Go's goroutines. Go keeps frame pointers, so where each frame returns to is read from one to the next, and is all of the path. The
 * goroutine itself goes with it: it has the place of the `go` statement that started it. A thread that is in C has its
 * goroutine waiting, with its registers put by; so its stack is read too, though the thread stands on another.
 * src/ledger/runtime/go/goroutine.rs reads what is taken, and says where things stand.
 */
#pragma once

#include "kernel.h"

#define GO_CALLERS 64
#define GO_WORDS 64

/* Fields of a goroutine (struct g) that no version has moved, in words. */
#define GO_STACK_LOW 0
#define GO_STACK_HIGH 1
#define GO_THREAD 6

struct go {
	s64 thread_offset; /* where the goroutine's address stands, from the thread's own pointer */
	u32 frame_pointer; /* of a goroutine that waits, in bytes */
	u32 current;       /* in a thread's record (struct m) its goroutine */
	u32 creator;       /* of a goroutine the place of its `go` statement; 0: not known yet */
	u32 unused;
};

struct go_taken {
	u64 goroutine; /* 0: the thread runs none, and the rest is none */
	u32 count;
	u32 is_cut;
	u64 callers[GO_CALLERS];
	u64 words[GO_WORDS]; /* the goroutine's first */
};

static __always_inline bool read_words(void *to, u32 bytes, u64 from)
{
	return !bpf_probe_read_user(to, bytes, (void *)from);
}

static __always_inline u64 go_word(struct go_taken *taken, u32 offset)
{
	return taken->words[offset / 8 & (GO_WORDS - 1)];
}

/* The number of a goroutine's path, never 0. */
static __noinline u64 take_go(struct go *settings, struct go_taken *taken)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(task);
	u64 goroutine = 0, scheduler = 0, thread, frame = registers->bp, key = 1, top = 0;
	u64 pair[2];

	taken->goroutine = 0;
	taken->count = 0;
	taken->is_cut = 0;
	if (!read_words(&goroutine, 8, task->thread.fsbase + settings->thread_offset) || !goroutine)
		return key;
	if (!read_words(taken->words, sizeof(taken->words), goroutine))
		return key;
	thread = taken->words[GO_THREAD];
	if (!read_words(&scheduler, 8, thread))
		return key;
	if (goroutine == scheduler) {
		/* In C, or in the scheduler itself, which may have no goroutine. */
		if (!read_words(&goroutine, 8, thread + settings->current) || !goroutine)
			return key;
		if (!read_words(taken->words, sizeof(taken->words), goroutine))
			return key;
		frame = go_word(taken, settings->frame_pointer);
	} else if (read_words(&top, 8, registers->sp)) {
		/* The function that enters the kernel has no frame. */
		key = mix(key, top);
	}
	u64 low = taken->words[GO_STACK_LOW], bytes = taken->words[GO_STACK_HIGH] - low;
	taken->goroutine = goroutine;
	for (u32 i = 0; i < GO_CALLERS; i++) {
		if (frame - low >= bytes || !read_words(pair, sizeof(pair), frame))
			break;
		taken->callers[i] = pair[1];
		taken->count = i + 1;
		key = mix(key, pair[1]);
		/* Frames lie in the order of their calls. */
		if (pair[0] <= frame) {
			frame = 0;
			break;
		}
		frame = pair[0];
	}
	taken->is_cut = frame - low < bytes && taken->count == GO_CALLERS;
	if (settings->creator)
		key = mix(key, go_word(taken, settings->creator));
	return key ? key : 1;
}
