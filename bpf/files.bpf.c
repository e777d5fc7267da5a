/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What processes hold open, read by the kernel's iterator over the files of tasks. Four programs:
 *   files     one row of fixed size for each descriptor of a process, small and without what moves all the time
 *   details   what is asked once of descriptors that are new: names of Unix sockets, queues, owner
 *   holdings  one row for each process of the machine: how much it holds, by kind
 *   owners    who on the machine holds one of the wanted inodes
 *
 * Fields are read where they stand (typed by the kernel's BTF, a bad pointer reads as 0); the cost is the cache lines that are touched, so rows ask
 * for as few as they can. A row that finds no room in the iterator's buffer is asked for again by the kernel.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* What a file is; src/sample/iterator/row.rs has the same numbers. */
enum kind { OTHER, SOCKET, REGULAR, DIRECTORY, CHARACTER, BLOCK, FIFO, ANONYMOUS };

struct row {
	u64 file;         /* address of the struct file: the same for what dup and fork have made */
	u64 private_data; /* and of what is behind it */
	u64 inode;
	u32 fd; /* END in the last row */
	u32 device;
	u8 kind;
	u8 access; /* 1 read, 2 write */
	u16 family;
	u16 type;
	u16 protocol;
	u8 state;
	u8 shutdown;
	u16 local_port;
	u16 remote_port;
	u16 flags;
	u32 last_activity; /* jiffies; 0: never */
	u32 now;           /* jiffies, in the last row only */
	union {
		struct {
			u8 local[16];
			u8 remote[16];
			u64 bytes_sent;
			u64 bytes_received;
		};
		struct {
			u64 peer_inode;
		};
		struct {
			u64 offset;
			u64 dentry; /* these three are others when the file is renamed or moved */
			u64 folder;
			u64 name_hash;
		};
	};
};

#define END 0xffffffff

/* Flags of a row. */
#define HAS_PEER 1 /* of a Unix socket */
#define DELETED 2

static __always_inline u64 inode_of_sock(struct sock *sk)
{
	if (bpf_core_field_exists(sk->sk_ino))
		return sk->sk_ino;
	/* A socket and its inode are allocated as one. */
	struct socket_alloc *socket = (struct socket_alloc *)sk->sk_socket;
	return socket ? BPF_CORE_READ(socket, vfs_inode.i_ino) : 0;
}

/* The later one; 0 is never. Time stamps may be ahead of a clock that was read before them, so it is read last. */
static __always_inline u32 later(u32 a, u32 b)
{
	u32 now = (u32)bpf_jiffies64();

	if (!a || !b)
		return a | b;
	return now - a < now - b ? a : b;
}

static __always_inline u32 last_activity(struct tcp_sock *tcp)
{
	return later(tcp->lsndtime, tcp->inet_conn.icsk_ack.lrcvtime);
}

static __always_inline bool has_peer(u8 state)
{
	return state != TCP_LISTEN && state != TCP_CLOSE;
}

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
		struct sock *peer = unix_socket ? unix_socket->peer : NULL;
		if (peer) {
			row->peer_inode = inode_of_sock(peer);
			/* A peer that has closed has no inode any more, and is a peer still. */
			row->flags = HAS_PEER;
		}
	}
}

static __always_inline u8 kind_of(struct inode *inode)
{
	/* Anonymous inodes have no type before 6.16, and that of a regular file since. */
	if (inode->i_sb->s_magic == ANON_INODE_FS_MAGIC)
		return ANONYMOUS;
	switch (inode->i_mode & S_IFMT) {
	case S_IFREG:
		return REGULAR;
	case S_IFDIR:
		return DIRECTORY;
	case S_IFIFO:
		return FIFO;
	case S_IFBLK:
		return BLOCK;
	case S_IFCHR:
		return CHARACTER;
	case S_IFSOCK:
		return SOCKET;
	default:
		return OTHER;
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
	struct socket *socket = bpf_sock_from_file(file);
	struct sock *sk = socket ? socket->sk : NULL;
	if (sk) {
		row.kind = SOCKET;
		put_socket(&row, sk);
	} else {
		put_file(&row, file);
	}
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}
