/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What all processes of the machine hold, in one pass of the kernel's iterator over the files of tasks:
 *   holdings  one row for each process: how much of what
 *   owners    a row for each descriptor of the sockets and pipes that are wanted
 *
 * Of a process only the first thread is looked at, as by /proc/PID/fd; the others share its files but for rare ones.
 */
#include "file.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct holdings {
	u32 pid; /* in the reader's pid namespace */
	u32 descriptors;
	u32 sockets;
	u32 connections;
	u32 silent;
	u32 close_wait;
	u32 listening;
	u32 unused;
};

/* What has been counted of the process that the iterator is at. Set anew before each pass. */
struct tally {
	u32 silent_ticks;
	u32 tgid; /* 0 before the first */
	struct holdings of;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct tally);
} tally SEC(".maps");

/* A process has a pid in each namespace from the machine's down to its own; the reader's is at the reader's level. */
static __always_inline u32 pid_here(struct task_struct *task)
{
	u32 level = bpf_get_current_task_btf()->thread_pid->level;
	void *numbers = &task->thread_pid->numbers;
	u32 pid = 0;

	bpf_probe_read_kernel(&pid, sizeof(pid), numbers + level * bpf_core_type_size(struct upid));
	return pid;
}

static __always_inline void count_tcp(struct tally *tally, struct sock *sk, u8 state)
{
	tally->of.listening += state == TCP_LISTEN;
	tally->of.close_wait += state == TCP_CLOSE_WAIT;
	if (!has_peer(state))
		return;
	tally->of.connections++;
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	u32 last = tcp ? last_activity(tcp) : 0;
	tally->of.silent += last && (u32)bpf_jiffies64() - last > tally->silent_ticks;
}

static __always_inline void count_socket(struct tally *tally, struct sock *sk)
{
	u16 family = sk->__sk_common.skc_family;

	tally->of.sockets++;
	if (family == AF_UNIX)
		tally->of.connections += !!peer_of(sk);
	else if (family != AF_INET && family != AF_INET6)
		return;
	else if (sk->sk_type == SOCK_STREAM)
		count_tcp(tally, sk, sk->__sk_common.skc_state);
	else if (sk->sk_protocol == IPPROTO_UDP)
		tally->of.connections += !!sk->__sk_common.skc_dport;
}

SEC("iter/task_file")
int holdings(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct tally *state;
	u32 only = 0;

	state = bpf_map_lookup_elem(&tally, &only);
	if (!state)
		return 0;
	if (!task || !file) {
		if (state->tgid)
			bpf_seq_write(ctx->meta->seq, &state->of, sizeof(state->of));
		return 0;
	}
	if (task->pid != task->tgid)
		return 0;
	if (state->tgid != task->tgid) {
		/* Without room for it nothing is counted: this file comes again. */
		if (state->tgid && bpf_seq_write(ctx->meta->seq, &state->of, sizeof(state->of)))
			return 0;
		__builtin_memset(&state->of, 0, sizeof(state->of));
		state->tgid = task->tgid;
		state->of.pid = pid_here(task);
	}
	state->of.descriptors++;
	struct sock *sk = sock_of(file);
	if (sk)
		count_socket(state, sk);
	return 0;
}

/* The inodes whose owners are asked for. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, u8);
} wanted_inodes SEC(".maps");

struct owner {
	u64 inode;
	u32 pid; /* in the reader's pid namespace */
	u32 fd;
	u32 device;
	u8 access; /* 1 read, 2 write */
	u8 kind;
	u16 unused;
};

SEC("iter/task_file")
int owners(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;

	if (!task || !file || task->pid != task->tgid)
		return 0;
	struct inode *inode = file->f_inode;
	struct owner owner = { .inode = inode->i_ino, .kind = kind_of(inode) };
	if (owner.kind != SOCKET && owner.kind != FIFO)
		return 0;
	if (!bpf_map_lookup_elem(&wanted_inodes, &owner.inode))
		return 0;
	owner.pid = pid_here(task);
	owner.fd = ctx->fd;
	owner.device = inode->i_sb->s_dev;
	owner.access = file->f_mode & (FMODE_READ | FMODE_WRITE);
	bpf_seq_write(ctx->meta->seq, &owner, sizeof(owner));
	return 0;
}
