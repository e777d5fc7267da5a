/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What all programs here ask of a file and of a socket. */
#pragma once

#include "kernel.h"

/* What a file is; src/sample/iterator/row.rs has the same numbers. */
enum kind { OTHER, SOCKET, REGULAR, DIRECTORY, CHARACTER, BLOCK, FIFO, ANONYMOUS };

static __always_inline u8 kind_of_mode(u16 mode)
{
	switch (mode & S_IFMT) {
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

static __always_inline u8 kind_of(struct inode *inode)
{
	/* Anonymous inodes have no type before 6.16, and that of a regular file since. */
	if (inode->i_sb->s_magic == ANON_INODE_FS_MAGIC)
		return ANONYMOUS;
	return kind_of_mode(inode->i_mode);
}

/* The same of a file that was not handed to us, but read out of a table. */
static __always_inline u8 kind_of_file(struct file *file)
{
	if (BPF_CORE_READ(file, f_inode, i_sb, s_magic) == ANON_INODE_FS_MAGIC)
		return ANONYMOUS;
	return kind_of_mode(BPF_CORE_READ(file, f_inode, i_mode));
}

static __always_inline struct sock *sock_of(struct file *file)
{
	struct socket *socket = bpf_sock_from_file(file);

	return socket ? socket->sk : NULL;
}

static __always_inline u64 inode_of_sock(struct sock *sk)
{
	if (bpf_core_field_exists(sk->sk_ino))
		return sk->sk_ino;
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

static __always_inline struct sock *peer_of(struct sock *sk)
{
	struct unix_sock *unix_socket = bpf_skc_to_unix_sock(sk);

	return unix_socket ? unix_socket->peer : NULL;
}

/* A descriptor and what is behind it; src/sample/iterator/row.rs reads it. */
struct row {
	u64 file;         /* address of the struct file: the same for what dup and fork have made */
	u64 private_data; /* and of what is behind it: of a socket, what the network knows it by */
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
			u64 name; /* another once it is bound */
		};
		struct {
			u64 offset;
			u64 dentry; /* these three are others when the file is renamed or moved */
			u64 folder;
			u64 name_hash;
		};
	};
};

/* Flags of a row. */
#define HAS_PEER 1 /* of a Unix socket */
#define DELETED 2
