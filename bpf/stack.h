/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The user's stack at an event. A path is told from another by the addresses of code that stand on the stack's top and by
 * what the runtime says; only a new one is copied.
 *
 * Functions that aren't static are verified once, whoever calls them.
 */
#pragma once

#include "ledger.h"

/* By their number in the machine's own pid namespace. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct target);
} targets SEC(".maps");

/* Paths that have been copied. One that is forgotten here is copied again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, u8);
} paths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} stacks SEC(".maps");

struct scratch {
	u64 words[KEY_WORDS_MAX];
	struct runtime_taken taken;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LOSSES);
	__type(key, u32);
	__type(value, u64);
} lost SEC(".maps");

static __always_inline void lose(u32 what)
{
	u64 *count = bpf_map_lookup_elem(&lost, &what);

	if (count)
		__sync_fetch_and_add(count, 1);
}

/* A task's number in the pid namespace of a level. */
static __always_inline u32 number_at(struct task_struct *task, u32 level)
{
	void *numbers = &task->thread_pid->numbers;
	u32 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), numbers + level * bpf_core_type_size(struct upid));
	return number;
}

static __always_inline u32 tid_at(u32 level)
{
	return level ? number_at(bpf_get_current_task_btf(), level) : (u32)bpf_get_current_pid_tgid();
}

/* True where an address within the span of the libraries is one of code. */
__noinline u32 is_library_code(struct target *target, u64 word)
{
	if (!target)
		return false;
	for (u32 i = 0; i < CODE_MAX; i++) {
		if (i >= target->code_count)
			return false;
		if (word - target->code[i].start < target->code[i].bytes)
			return true;
	}
	return false;
}

static __always_inline bool is_code(struct target *target, u64 word)
{
	if (word - target->main.start < target->main.bytes)
		return true;
	return word - target->libraries.start < target->libraries.bytes && is_library_code(target, word);
}

/* A block of words, up to a last one: few enough for the verifier to look at one after the other. */
__noinline u64 mix_words(struct target *target, struct scratch *scratch, u32 first, u32 end, u64 key)
{
	if (!target || !scratch)
		return 0;
	for (u32 i = 0; i < KEY_BLOCK && first + i < end; i++) {
		u64 word = scratch->words[(first + i) & (KEY_WORDS_MAX - 1)];
		if (is_code(target, word))
			key = mix(key, word);
	}
	return key;
}

/* What the return addresses on the stack's top say of the path. */
__noinline u64 path_of(struct target *target, struct scratch *scratch, u64 sp, u64 key)
{
	if (!target || !scratch)
		return 0;
	u32 bytes = target->key_words * 8;
	if (bytes > sizeof(scratch->words))
		bytes = sizeof(scratch->words);
	if (bytes && bpf_probe_read_user(scratch->words, bytes, (void *)sp)) {
		/* The stack ends before: what is left of the page is its own, and the next one may be. */
		u32 begun = PAGE_BYTES - (sp & (PAGE_BYTES - 1));
		if (!begun || begun > PAGE_BYTES || bpf_probe_read_user(scratch->words, begun, (void *)sp))
			return 0;
		bytes = begun;
		if (!bpf_probe_read_user((void *)scratch->words + begun, PAGE_BYTES, (void *)sp + begun))
			bytes += PAGE_BYTES;
	}
	for (u32 first = 0; first < KEY_WORDS_MAX; first += KEY_BLOCK) {
		if (first >= bytes / 8)
			break;
		key = mix_words(target, scratch, first, bytes / 8, key);
	}
	return key;
}

__noinline u32 copy_stack(struct target *target, struct scratch *scratch, u64 key)
{
	if (!target || !scratch)
		return false;
	struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct stack *stack = bpf_ringbuf_reserve(&stacks, sizeof(*stack), 0);
	if (!stack)
		return false;
	stack->key = key;
	stack->ip = registers->ip;
	stack->sp = registers->sp;
	stack->bp = registers->bp;
	stack->tgid = bpf_get_current_pid_tgid() >> 32;
	stack->runtime = target->runtime.number;
	stack->unused = 0;
	bpf_probe_read_kernel(&stack->taken, sizeof(stack->taken), &scratch->taken);
	u32 begun = PAGE_BYTES - (stack->sp & (PAGE_BYTES - 1));
	u32 copied = 0;
	if (begun && begun <= PAGE_BYTES && !bpf_probe_read_user(stack->stack, begun, (void *)stack->sp)) {
		copied = begun;
		for (u32 page = 0; page < STACK_BYTES / PAGE_BYTES - 1; page++) {
			u32 at = begun + page * PAGE_BYTES;
			if (at > STACK_BYTES - PAGE_BYTES)
				break;
			if (bpf_probe_read_user(stack->stack + at, PAGE_BYTES, (void *)stack->sp + at))
				break;
			copied = at + PAGE_BYTES;
		}
	}
	stack->stack_bytes = copied;
	bpf_ringbuf_submit(stack, BPF_RB_NO_WAKEUP);
	return true;
}

/* The key of the path that this thread is on; 0 where it can't be told. `last` is one that has been copied for sure. */
__noinline u64 take_stack(struct target *target, u64 last)
{
	u32 only = 0;
	u8 known = 1;
	struct scratch *scratch_now = bpf_map_lookup_elem(&scratch, &only);
	struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());

	if (!target || !scratch_now)
		return 0;
	u64 key = mix(take_runtime(&target->runtime, &scratch_now->taken), registers->ip);
	/* Two processes may have other code at one address. */
	key = mix(key, bpf_get_current_pid_tgid() >> 32);
	key = path_of(target, scratch_now, registers->sp, key);
	if (!key || key == last || bpf_map_lookup_elem(&paths, &key))
		return key;
	if (!copy_stack(target, scratch_now, key)) {
		lose(STACKS);
		return 0;
	}
	bpf_map_update_elem(&paths, &key, &known, BPF_ANY);
	return key;
}
