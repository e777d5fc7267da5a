/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The parts of the kernel's structures that the programs here read. Only names count: the loader finds where each field
 * stands in the running kernel (CO-RE), so neither order nor size need fit. A field that some kernels since 6.1 lack is
 * asked for by bpf_core_field_exists first.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_FIN_WAIT1 4
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10
#define TCP_CLOSING 11
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFREG 0100000
#define S_IFBLK 0060000
#define S_IFCHR 0020000
#define S_IFDIR 0040000
#define S_IFIFO 0010000
#define FMODE_READ 1
#define FMODE_WRITE 2
#define ANON_INODE_FS_MAGIC 0x09041934
#define UNIX_PATH_MAX 108
#define AT_FDCWD -100

/* What a program of an iterator is called with: fixed, the verifier's own. */
struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id;
	u64 seq_num;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd __attribute__((aligned(8)));
	struct file *file;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct seq_file;

struct upid {
	s32 nr;
};

struct pid {
	u32 level;
	struct upid numbers[0];
};

typedef struct {
	s32 counter;
} atomic_t;

typedef struct {
	u32 val;
} kuid_t;

struct signal_struct {
	atomic_t live;
};

struct cred {
	kuid_t euid;
};

struct fdtable {
	u32 max_fds;
	struct file **fd;
	unsigned long *open_fds;
};

struct files_struct {
	struct fdtable *fdt;
};

/* The processor's registers as they were in user space; x86-64's. */
struct pt_regs {
	unsigned long r14;
	unsigned long bp;
	unsigned long bx;
	unsigned long r10;
	unsigned long ax;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
	unsigned long ip;
	unsigned long sp;
};

struct thread_struct {
	unsigned long fsbase;
};

struct task_struct {
	u32 pid;
	u32 tgid;
	u32 __state; /* since 5.14 */
	unsigned long nvcsw;
	unsigned long nivcsw;
	struct thread_struct thread;
	int exit_code;
	u64 start_boottime;
	char comm[16];
	struct pid *thread_pid;
	struct task_struct *group_leader;
	struct cred *cred;
	struct files_struct *files;
	struct signal_struct *signal;
};

struct super_block {
	u32 s_dev;
	unsigned long s_magic;
};

struct inode {
	u16 i_mode;
	unsigned long i_ino;
	struct super_block *i_sb;
};

struct qstr {
	u64 hash_len;
};

struct hlist_bl_node {
	struct hlist_bl_node **pprev;
};

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
};

typedef struct {
	long long counter;
} atomic64_t;

typedef struct {
	atomic64_t refcnt;
} file_ref_t;

struct file {
	u32 f_mode;
	struct cred *f_cred;
	file_ref_t f_ref;   /* since 6.13: one less than there are */
	atomic64_t f_count; /* before */
	void *private_data;
	struct inode *f_inode;
	struct path f_path;
	long long f_pos;
};

struct in6_addr {
	union {
		u32 u6_addr32[4];
	} in6_u;
};

struct proto {
	char name[32];
};

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	u16 skc_family;
	volatile u8 skc_state;
	struct proto *skc_prot;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct kernfs_node {
	u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

typedef struct refcount_struct {
	atomic_t refs;
} refcount_t;

struct sock {
	struct sock_common __sk_common;
	u16 sk_type;
	u16 sk_protocol;
	u8 sk_shutdown;
	u32 sk_ack_backlog;
	u32 sk_max_ack_backlog;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
	refcount_t sk_wmem_alloc;
	kuid_t sk_uid;
	unsigned long sk_ino; /* since 6.18 */
	struct socket *sk_socket;
	struct sock_cgroup_data sk_cgrp_data;
};

struct socket {
	short type;
	struct file *file;
	struct sock *sk;
};

/* A socket and its inode are allocated as one, the socket first. */
struct socket_alloc {
	struct inode vfs_inode;
};

struct ipv6_pinfo {
	s32 mcast_oif;
};

struct inet_sock {
	u16 inet_sport;
	struct ipv6_pinfo *pinet6;
	s32 mc_index;
};

struct inet_connection_sock {
	u8 icsk_ca_state : 5;
	struct {
		u32 lrcvtime;
	} icsk_ack;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	u32 rcv_nxt;
	u32 copied_seq;
	u32 write_seq;
	u32 snd_una;
	u32 lsndtime;
	u32 total_retrans;
	u64 bytes_received;
	u64 bytes_sent;
	u64 bytes_retrans;
};

struct sockaddr_un {
	u16 sun_family;
	char sun_path[UNIX_PATH_MAX];
};

struct unix_address {
	s32 len;
	struct sockaddr_un name[0];
};

struct unix_sock {
	struct unix_address *addr;
	struct sock *peer;
};

#pragma clang attribute pop

/* What user space hands to the kernel. */
struct iovec {
	void *iov_base;
	u64 iov_len;
};

struct user_msghdr {
	void *msg_name;
	s32 msg_namelen;
	struct iovec *msg_iov;
	u64 msg_iovlen;
};

/* A further word of what a path's number is made of. */
static __always_inline u64 mix(u64 key, u64 word)
{
	key = (key ^ word) * 0x9e3779b97f4a7c15;
	return key ^ key >> 29;
}
