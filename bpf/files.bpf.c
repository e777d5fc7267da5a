/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What one process holds open, read by the kernel's iterator over the files of tasks:
 *   files    one row of fixed size for each descriptor, without what moves all the time
 *   details  what is asked once of sockets that are new: names, queues, owner
 *
 * Fields are read where they stand (typed by the kernel's BTF; a bad pointer reads as 0). What that costs is the cache
 * lines that are touched. A row that finds no room in the iterator's buffer is asked for again by the kernel.
 */
#include "file.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define END 0xffffffff

static __always_inline void put_addresses(struct row *row, struct sock *sk)
{
	u32 *local = (u32 *)row->local, *remote = (u32 *)row->remote;

	row->local_port = sk->__sk_common.skc_num;
	row->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (row->family == AF_INET) {
		local[0] = sk->__sk_common.skc_rcv_saddr;
		remote[0] = sk->__sk_common.skc_daddr;
		return;
	}
	/* A kernel without IPv6 has no such sockets, and no such fields. */
	if (!bpf_core_field_exists(sk->__sk_common.skc_v6_daddr))
		return;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		local[i] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[i];
		remote[i] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[i];
	}
}

static __always_inline void put_socket(struct row *row, struct sock *sk)
{
	row->family = sk->__sk_common.skc_family;
	row->state = sk->__sk_common.skc_state;
	row->type = sk->sk_type;
	row->protocol = sk->sk_protocol;
	row->shutdown = sk->sk_shutdown;
	row->inode = inode_of_sock(sk);
	if (row->family == AF_INET || row->family == AF_INET6) {
		put_addresses(row, sk);
		struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
		if (tcp && has_peer(row->state)) {
			row->bytes_sent = tcp->bytes_sent - tcp->bytes_retrans;
			row->bytes_received = tcp->bytes_received;
			row->last_activity = last_activity(tcp);
		}
	} else if (row->family == AF_UNIX) {
		struct unix_sock *unix_socket = bpf_skc_to_unix_sock(sk);
		struct sock *peer = peer_of(sk);
		if (unix_socket)
			row->name = (u64)unix_socket->addr;
		if (peer) {
			row->peer_inode = inode_of_sock(peer);
			/* A peer that has closed has no inode any more, and is a peer still. */
			row->flags = HAS_PEER;
		}
	}
}

/* A deleted file's name is taken out of its folder; the root of a tree stands in none. */
static __always_inline void put_name(struct row *row, struct dentry *dentry)
{
	row->dentry = (u64)dentry;
	row->folder = (u64)dentry->d_parent;
	row->name_hash = dentry->d_name.hash_len;
	if (!dentry->d_hash.pprev && row->dentry != row->folder)
		row->flags = DELETED;
}

static __always_inline void put_file(struct row *row, struct file *file)
{
	struct inode *inode = file->f_inode;

	row->kind = kind_of(inode);
	row->inode = inode->i_ino;
	row->device = inode->i_sb->s_dev;
	if (row->kind == ANONYMOUS || row->kind == FIFO)
		return;
	put_name(row, file->f_path.dentry);
	if (row->kind == REGULAR || row->kind == BLOCK)
		row->offset = file->f_pos;
}

SEC("iter/task_file")
int files(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct row row = {};

	if (!file) {
		row.fd = END;
		row.now = (u32)bpf_jiffies64();
		bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
		return 0;
	}
	row.fd = ctx->fd;
	row.file = (u64)file;
	row.private_data = (u64)file->private_data;
	row.access = file->f_mode & (FMODE_READ | FMODE_WRITE);
	struct sock *sk = sock_of(file);
	if (sk) {
		row.kind = SOCKET;
		row.private_data = (u64)sk;
		put_socket(&row, sk);
	} else {
		put_file(&row, file);
	}
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}

/* What `details` is asked for: a bit for each descriptor. Higher ones are always told. */
#define WANTED_WORDS 512
#define WANTED_BLOCKS 32

struct wanted_descriptors {
	u64 words[WANTED_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WANTED_BLOCKS);
	__type(key, u32);
	__type(value, struct wanted_descriptors);
} wanted_descriptors SEC(".maps");

static __always_inline bool is_wanted(u32 fd)
{
	u32 block = fd / (64 * WANTED_WORDS);
	struct wanted_descriptors *wanted = bpf_map_lookup_elem(&wanted_descriptors, &block);

	return !wanted || wanted->words[fd / 64 % WANTED_WORDS] & 1ULL << fd % 64;
}

struct detail {
	u64 file;
	u64 cgroup; /* 0: unknown */
	u32 fd;
	u32 uid;
	u32 retransmits;
	u32 receive_queue;
	u32 send_queue;
	u8 congestion_state;
	u8 flags;
	u8 name_length;
	u8 peer_name_length;
	char protocol[32];
	char name[UNIX_PATH_MAX];
	char peer_name[UNIX_PATH_MAX];
};

/* Flags of a detail. */
#define HAS_QUEUES 1
#define HAS_TCP 2

static __always_inline u8 put_unix_name(char *to, struct sock *sk)
{
	struct unix_sock *unix_socket = bpf_skc_to_unix_sock(sk);
	struct unix_address *address = unix_socket ? unix_socket->addr : NULL;

	if (!address)
		return 0;
	u32 length = address->len - sizeof(u16);
	if (length > UNIX_PATH_MAX)
		return 0;
	/* The name follows the family. */
	bpf_probe_read_kernel(to, length, (void *)&address->name + sizeof(u16));
	return length;
}

static __always_inline void put_tcp(struct detail *detail, struct tcp_sock *tcp, struct sock *sk)
{
	u8 state = sk->__sk_common.skc_state;

	detail->flags = HAS_QUEUES;
	if (state == TCP_LISTEN) {
		detail->receive_queue = sk->sk_ack_backlog;
		detail->send_queue = sk->sk_max_ack_backlog;
		return;
	}
	s32 unread = tcp->rcv_nxt - tcp->copied_seq;
	/* The peer's FIN counts as a byte once. */
	detail->receive_queue = unread > 0 ? unread : 0;
	detail->send_queue = tcp->write_seq - tcp->snd_una;
	detail->flags |= HAS_TCP;
	detail->retransmits = tcp->total_retrans;
	detail->congestion_state = BPF_CORE_READ_BITFIELD(&tcp->inet_conn, icsk_ca_state);
}

static __always_inline void put_details(struct detail *detail, struct sock *sk)
{
	u16 family = sk->__sk_common.skc_family;
	struct proto *protocol = sk->__sk_common.skc_prot;

	detail->uid = sk->sk_uid.val;
	if (bpf_core_field_exists(sk->sk_cgrp_data.cgroup))
		detail->cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup, kn, id);
	bpf_probe_read_kernel(detail->protocol, sizeof(detail->protocol), protocol->name);
	if (family == AF_UNIX) {
		struct sock *peer = peer_of(sk);
		detail->name_length = put_unix_name(detail->name, sk);
		if (peer)
			detail->peer_name_length = put_unix_name(detail->peer_name, peer);
	} else if (family == AF_INET || family == AF_INET6) {
		struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
		if (tcp) {
			put_tcp(detail, tcp, sk);
		} else if (sk->sk_protocol == IPPROTO_UDP) {
			detail->flags = HAS_QUEUES;
			/* One is held by the socket itself. */
			detail->send_queue = sk->sk_wmem_alloc.refs.counter - 1;
			detail->receive_queue = sk->sk_backlog.rmem_alloc.counter;
		}
	}
}

SEC("iter/task_file")
int details(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct detail detail = {};

	if (!file || !is_wanted(ctx->fd))
		return 0;
	struct sock *sk = sock_of(file);
	if (!sk)
		return 0;
	detail.file = (u64)file;
	detail.fd = ctx->fd;
	put_details(&detail, sk);
	bpf_seq_write(ctx->meta->seq, &detail, sizeof(detail));
	return 0;
}
