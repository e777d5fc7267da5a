/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What TLS hides. Where a library is handed what it shall encrypt (SSL_write and its like, Go's crypto/tls) the first bytes are
 * kept, by the library's own record of the connection, until a send brings their ciphertext. Which socket that is:
 *   the send comes from within the call: the call's return address stands where it stood. Nothing is surer, and the socket is
 *   remembered
 *   the library wrote to memory (asyncio, Node), and the send follows: by the socket that is remembered; else it is the
 *   last that this thread has encrypted, the only one that waits and belongs to no other socket, and the ciphertext is as
 *   long as it must be
 * Otherwise it is not known, and said so.
 */
#pragma once

#include "ledger.h"

/* Kinds of TLS records, the first byte of each; then comes 3. */
#define TLS_CHANGE_CIPHER 0x14
#define TLS_APPLICATION_DATA 0x17
#define TLS_RECORD_MAX 16384
/* What encryption adds to a record: 17 (TLS 1.3), 24 (GCM), up to 84 (CBC with SHA-384). */
#define TLS_ADDED_MIN 16
#define TLS_ADDED_MAX 96

/* A connection's record in the library, or who writes: a thread, of Go a goroutine. */
struct tls_key {
	u64 of;
	u64 tgid;
};

struct plaintext {
	u64 inode;   /* of the socket that it goes to, and its address; 0: not known yet */
	u64 object;
	u64 writer;
	u64 place;   /* of the return address; of a goroutine from its stack's upper end, for stacks move */
	u64 returns;
	u32 length;
	u32 first_length; /* where several were written since the last send, of the first; the last one is kept */
	u16 kept;
	u8 is_pending;
	u8 is_go;
	u32 unused;
	u8 bytes[MESSAGE_BYTES];
};

struct encrypted {
	u64 last;
	u64 other; /* one before it that waited for a send, and of which the socket wasn't known; 0: none */
};

struct tls_of {
	u64 inode;
	u64 of;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct tls_key);
	__type(value, struct plaintext);
} plaintexts SEC(".maps");

/* What a new one begins with. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct plaintext);
} no_plaintext SEC(".maps");

/* What a writer has encrypted last. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct tls_key);
	__type(value, struct encrypted);
} encrypted SEC(".maps");

/* By the address of the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, u64);
	__type(value, struct tls_of);
} tls_of SEC(".maps");

static __always_inline u64 user_word(u64 at)
{
	u64 word = 0;

	bpf_probe_read_user(&word, sizeof(word), (void *)at);
	return word;
}

/* The upper end of a goroutine's stack. */
static __always_inline u64 go_stack_high(u64 goroutine)
{
	return user_word(goroutine + 8 * GO_STACK_HIGH);
}

/* Whether a socket that is open has been seen to take this connection's ciphertext. */
static __always_inline bool is_taken(struct plaintext *kept)
{
	struct use *use = bpf_map_lookup_elem(&uses, &kept->object);

	return kept->inode && use && use->inode == kept->inode;
}

/* What waits for a send of which the socket isn't known, if this writer has written it. */
static __always_inline struct plaintext *waits(u64 of, struct tls_key *by)
{
	struct tls_key key = { of, by->tgid };
	struct plaintext *kept = of ? bpf_map_lookup_elem(&plaintexts, &key) : NULL;

	return kept && kept->is_pending && kept->writer == by->of && !is_taken(kept) ? kept : NULL;
}

static __always_inline int keep_plaintext(u64 of, u64 goroutine, u64 sp, u64 from, u64 length)
{
	u64 tgid = bpf_get_current_pid_tgid() >> 32;
	u64 writer = goroutine ? goroutine : (u32)bpf_get_current_pid_tgid();
	struct tls_key key = { of, tgid }, by = { writer, tgid };
	u32 only = 0;

	if (!of || !length || length > 0x7fffffff)
		return 0;
	struct plaintext *kept = bpf_map_lookup_elem(&plaintexts, &key);
	if (!kept) {
		struct plaintext *none = bpf_map_lookup_elem(&no_plaintext, &only);
		if (!none || bpf_map_update_elem(&plaintexts, &key, none, BPF_ANY))
			return 0;
		kept = bpf_map_lookup_elem(&plaintexts, &key);
		if (!kept)
			return 0;
	}
	u32 bytes = length < MESSAGE_BYTES ? length : MESSAGE_BYTES;
	kept->writer = writer;
	kept->is_go = !!goroutine;
	kept->place = goroutine ? go_stack_high(goroutine) - sp : sp;
	kept->returns = user_word(sp);
	kept->length = length;
	if (!kept->is_pending)
		kept->first_length = length;
	kept->kept = bpf_probe_read_user(kept->bytes, bytes, (void *)from) ? 0 : bytes;
	kept->is_pending = 1;
	struct encrypted now = { of, 0 }, *before = bpf_map_lookup_elem(&encrypted, &by);
	if (before && before->other != of && waits(before->other, &by))
		now.other = before->other;
	else if (before && before->last != of && waits(before->last, &by))
		now.other = before->last;
	bpf_map_update_elem(&encrypted, &by, &now, BPF_ANY);
	return 0;
}

/* Of a library in C: the connection, the bytes, how many. */
SEC("uprobe")
int encrypts(struct pt_regs *ctx)
{
	return keep_plaintext(ctx->di, 0, ctx->sp, ctx->si, ctx->dx);
}

/* crypto/tls.(*Conn).Write, since Go 1.17: the same in other registers. */
SEC("uprobe")
int encrypts_go(struct pt_regs *ctx)
{
	return keep_plaintext(ctx->ax, ctx->r14, ctx->sp, ctx->bx, ctx->cx);
}

/* The thread is still in the call that was handed this. */
static __always_inline bool is_within(struct plaintext *kept, struct pt_regs *registers)
{
	u64 at = kept->is_go ? go_stack_high(kept->writer) - kept->place : kept->place;

	return registers->sp < at && kept->returns && user_word(at) == kept->returns;
}

/* Whether a record of TLS is as long as it must be. */
static __always_inline bool fits(struct plaintext *kept, u32 record_bytes)
{
	if (kept->first_length >= TLS_RECORD_MAX)
		return record_bytes >= TLS_RECORD_MAX + TLS_ADDED_MIN;
	return record_bytes - kept->first_length - TLS_ADDED_MIN <= TLS_ADDED_MAX - TLS_ADDED_MIN;
}

/* What the thread that sends, or its goroutine, has encrypted last; `by` becomes which of the two. */
static __always_inline struct encrypted *encrypted_by(struct pt_regs *registers, struct tls_key *by)
{
	by->of = (u32)bpf_get_current_pid_tgid();
	struct encrypted *it = bpf_map_lookup_elem(&encrypted, by);
	if (it)
		return it;
	/* In Go this register holds the goroutine. */
	by->of = registers->r14;
	return bpf_map_lookup_elem(&encrypted, by);
}

static __always_inline struct plaintext *plaintext_of(u64 object, u64 inode, u32 record_bytes)
{
	struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct tls_key key = { 0, bpf_get_current_pid_tgid() >> 32 }, by = key;
	struct encrypted *it = encrypted_by(registers, &by);
	struct tls_of *known = bpf_map_lookup_elem(&tls_of, &object);
	struct plaintext *last = NULL;
	bool is_surely = false;

	if (it) {
		key.of = it->last;
		last = bpf_map_lookup_elem(&plaintexts, &key);
		if (last && last->writer != by.of)
			last = NULL;
		is_surely = last && is_within(last, registers);
	}
	if (!is_surely && known && known->inode == inode) {
		key.of = known->of;
		struct plaintext *kept = bpf_map_lookup_elem(&plaintexts, &key);
		if (!kept || !kept->is_pending || kept->inode != inode)
			return NULL;
		if (fits(kept, record_bytes))
			return kept;
		kept->is_pending = 0;
		return NULL;
	}
	if (!it || !last)
		return NULL;
	if (!is_surely) {
		struct plaintext *other = waits(it->other, &by);
		if (other) {
			/* It may be either's; neither is sure any more. */
			other->is_pending = 0;
			last->is_pending = 0;
		}
		if (!last->is_pending || is_taken(last) || !fits(last, record_bytes))
			return NULL;
	}
	struct tls_of now = { inode, key.of };
	bpf_map_update_elem(&tls_of, &object, &now, BPF_ANY);
	last->object = object;
	last->inode = inode;
	return last;
}

/* Puts what was encrypted in the place of a message's ciphertext, or says that it isn't known. */
__noinline u32 reveal(u64 object, u64 inode, struct message *message)
{
	if (!message)
		return 0;
	u8 *record = message->bytes;
	u32 record_bytes = record[3] << 8 | record[4];
	bool is_tls = message->kept > 5 && record[0] >= TLS_CHANGE_CIPHER && record[0] <= TLS_APPLICATION_DATA &&
		      record[1] == 3 && record[2] >= 1 && record[2] <= 4;
	if (!is_tls || (record[0] == TLS_APPLICATION_DATA && record_bytes < TLS_ADDED_MIN))
		return 0;
	message->kept = 0;
	/* The two sides agreeing, or saying that they end. */
	if (record[0] != TLS_APPLICATION_DATA)
		return 0;
	struct plaintext *kept = plaintext_of(object, inode, record_bytes);
	if (!kept) {
		message->flags |= ENCRYPTED;
		return 0;
	}
	kept->is_pending = 0;
	message->length = kept->length;
	if (!bpf_probe_read_kernel(message->bytes, sizeof(message->bytes), kept->bytes))
		message->kept = kept->kept;
	return 0;
}
