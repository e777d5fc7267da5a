/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Which connections a process of a followed command holds as it ends: nobody can ask it later.
 *   follow  whoever a followed process forks is followed, however briefly it lives
 *   ends    the last thread of one, before the kernel closes its files (true of every kernel that this runs on)
 *
 * What is found waits in queues, the end of a process behind its connections. What finds no room is counted.
 */
#include "file.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* The descriptors that are looked at, by the word; more than a process may have by default. */
#define WORDS_MAX 16384
#define WORD_BITS 64

/* Who starts the command: all that it forks while it is set. Its namespace has the pids that are told. */
struct starter {
	u64 device;
	u64 inode;
	u32 pid; /* 0: nobody */
	u32 level;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct starter);
} starter SEC(".maps");

/* The followed processes that run: their pids in the machine's own namespace and in the starter's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, u32);
} followed SEC(".maps");

struct held {
	u64 started; /* with the pid it names the process */
	u32 pid;
	u32 references; /* descriptors everywhere that lead to this open file */
	u8 flags;
	u8 peer_name_length;
	u8 unused[6];
	struct row row;
	char peer_name[UNIX_PATH_MAX];
	u32 unused_too;
};

/* Flags of what is held. */
#define OPENED_BY_IT 1 /* since its fork, exec or change of user */
#define ACCEPTED 2     /* others opened it; of a Unix socket: it has a name, as what was accepted has */

struct ended {
	u64 started;
	u64 at; /* nanoseconds since boot, as above */
	u32 pid;
	u32 uid;
	s32 code;
	char name[16];
	u32 held;
};

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 8192);
	__type(value, struct held);
} held SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 16384);
	__type(value, struct ended);
} ended SEC(".maps");

enum dropped { PROCESSES, CONNECTIONS, ENDS, SORTS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SORTS);
	__type(key, u32);
	__type(value, u64);
} dropped SEC(".maps");

static __always_inline void drop(u32 sort)
{
	u64 *count = bpf_map_lookup_elem(&dropped, &sort);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline bool is_started_by(struct starter *starter)
{
	struct bpf_pidns_info here;

	if (!starter->pid || bpf_get_ns_current_pid_tgid(starter->device, starter->inode, &here, sizeof(here)))
		return false;
	if (here.tgid != starter->pid)
		return false;
	starter->level = bpf_get_current_task_btf()->thread_pid->level;
	return true;
}

SEC("tp_btf/sched_process_fork")
int follow(u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0], *child = (void *)ctx[1];
	u32 only = 0, number = child->tgid, parents = parent->tgid, pid = 0;
	struct starter *from = bpf_map_lookup_elem(&starter, &only);

	/* A thread is none. */
	if (!from || number != child->pid)
		return 0;
	if (!bpf_map_lookup_elem(&followed, &parents) && !is_started_by(from))
		return 0;
	void *numbers = &child->thread_pid->numbers;
	bpf_probe_read_kernel(&pid, sizeof(pid), numbers + from->level * bpf_core_type_size(struct upid));
	if (bpf_map_update_elem(&followed, &number, &pid, BPF_ANY))
		drop(PROCESSES);
	return 0;
}

/* Where in a process' table we are. */
struct walk {
	u64 files;
	u64 open;
	u64 cred;
	u64 started;
	u64 word;
	u32 first;
	u32 pid;
	u32 held;
};

static __always_inline void put_addresses_of(struct row *row, struct sock *sk)
{
	u32 *local = (u32 *)row->local, *remote = (u32 *)row->remote;

	row->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	row->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (row->family == AF_INET) {
		local[0] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		remote[0] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	} else if (bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		BPF_CORE_READ_INTO(&row->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&row->remote, sk, __sk_common.skc_v6_daddr);
	}
}

/*
 * The kernel gives what a listener takes the interface of the request as the one to send multicasts by, which other TCP
 * sockets have no use for.
 */
static __always_inline bool is_accepted(struct sock *sk)
{
	struct inet_sock *inet = (struct inet_sock *)sk;

	if (BPF_CORE_READ(inet, mc_index))
		return true;
	if (BPF_CORE_READ(sk, __sk_common.skc_family) != AF_INET6 || !bpf_core_field_exists(inet->pinet6))
		return false;
	struct ipv6_pinfo *of_6 = BPF_CORE_READ(inet, pinet6);
	return of_6 && BPF_CORE_READ(of_6, mcast_oif);
}

/* False where it is no connection. */
static __always_inline bool put_inet(struct held *held, struct sock *sk)
{
	struct row *row = &held->row;

	put_addresses_of(row, sk);
	if (!row->remote_port)
		return false;
	if (row->type != SOCK_STREAM || row->protocol != IPPROTO_TCP)
		return row->protocol == IPPROTO_UDP;
	if (!has_peer(row->state))
		return false;
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	row->bytes_sent = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans);
	row->bytes_received = BPF_CORE_READ(tcp, bytes_received);
	row->last_activity = later(BPF_CORE_READ(tcp, lsndtime), BPF_CORE_READ(tcp, inet_conn.icsk_ack.lrcvtime));
	if (is_accepted(sk))
		held->flags |= ACCEPTED;
	return true;
}

static __always_inline bool put_unix(struct held *held, struct sock *sk)
{
	struct unix_sock *unix_socket = (struct unix_sock *)sk;
	struct unix_sock *peer = (struct unix_sock *)BPF_CORE_READ(unix_socket, peer);

	if (!peer)
		return false;
	held->row.flags = HAS_PEER;
	held->row.peer_inode = BPF_CORE_READ((struct sock *)peer, sk_socket) ? 1 : 0;
	if (bpf_core_field_exists(sk->sk_ino))
		held->row.peer_inode = BPF_CORE_READ((struct sock *)peer, sk_ino);
	if (BPF_CORE_READ(unix_socket, addr))
		held->flags |= ACCEPTED;
	struct unix_address *address = BPF_CORE_READ(peer, addr);
	if (!address)
		return true;
	u32 length = BPF_CORE_READ(address, len) - sizeof(u16);
	if (length <= UNIX_PATH_MAX) {
		/* The name follows the family. */
		bpf_probe_read_kernel(held->peer_name, length, (void *)&address->name + sizeof(u16));
		held->peer_name_length = length;
	}
	return true;
}

static __always_inline bool put_connection(struct held *held, struct file *file)
{
	struct row *row = &held->row;
	struct socket *socket = (struct socket *)row->private_data;
	struct sock *sk = BPF_CORE_READ(socket, sk);

	if (!sk)
		return false;
	row->kind = SOCKET;
	row->inode = BPF_CORE_READ(file, f_inode, i_ino);
	row->access = BPF_CORE_READ(file, f_mode) & (FMODE_READ | FMODE_WRITE);
	row->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	row->state = BPF_CORE_READ(sk, __sk_common.skc_state);
	row->type = BPF_CORE_READ(sk, sk_type);
	row->protocol = BPF_CORE_READ(sk, sk_protocol);
	if (row->family == AF_INET || row->family == AF_INET6)
		return put_inet(held, sk);
	return row->family == AF_UNIX && put_unix(held, sk);
}

static long look_at_descriptor(u32 bit, struct walk *walk)
{
	u32 fd = walk->first + bit;
	struct file *file = NULL;
	struct held it = {};

	if (!(walk->word >> (bit & 63) & 1))
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), (void *)walk->files + (u64)fd * sizeof(file));
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	it.row.fd = fd;
	it.row.file = (u64)file;
	it.row.private_data = (u64)BPF_CORE_READ(file, private_data);
	if (!put_connection(&it, file))
		return 0;
	it.row.now = (u32)bpf_jiffies64();
	it.started = walk->started;
	it.pid = walk->pid;
	if (bpf_core_field_exists(file->f_ref))
		it.references = BPF_CORE_READ(file, f_ref.refcnt.counter) + 1;
	else
		it.references = BPF_CORE_READ(file, f_count.counter);
	/* Each process has credentials of its own, and a file those it was opened with. */
	if ((u64)BPF_CORE_READ(file, f_cred) == walk->cred)
		it.flags |= OPENED_BY_IT;
	walk->held++;
	if (bpf_map_push_elem(&held, &it, 0))
		drop(CONNECTIONS);
	return 0;
}

static long look_at_word(u32 index, struct walk *walk)
{
	walk->word = 0;
	bpf_probe_read_kernel(&walk->word, sizeof(walk->word), (void *)walk->open + index * sizeof(walk->word));
	walk->first = index * WORD_BITS;
	if (walk->word)
		bpf_loop(WORD_BITS, look_at_descriptor, walk, 0);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int ends(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	u32 number = task->tgid;
	struct ended end = {};
	u32 *pid = bpf_map_lookup_elem(&followed, &number);

	if (!pid || task->signal->live.counter)
		return 0;
	end.pid = *pid;
	/* Two threads that end at once may both be the last: one of them takes it out. */
	if (bpf_map_delete_elem(&followed, &number))
		return 0;
	struct walk walk = { .cred = (u64)task->cred, .started = task->group_leader->start_boottime, .pid = end.pid };
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	if (table) {
		walk.files = (u64)BPF_CORE_READ(table, fd);
		walk.open = (u64)BPF_CORE_READ(table, open_fds);
		u32 words = BPF_CORE_READ(table, max_fds) / WORD_BITS;
		bpf_loop(words < WORDS_MAX ? words : WORDS_MAX, look_at_word, &walk, 0);
	}
	end.started = walk.started;
	end.at = bpf_ktime_get_boot_ns();
	end.uid = task->cred->euid.val;
	end.code = task->exit_code;
	end.held = walk.held;
	bpf_probe_read_kernel(end.name, sizeof(end.name), task->group_leader->comm);
	if (bpf_map_push_elem(&ended, &end, 0))
		drop(ENDS);
	return 0;
}
