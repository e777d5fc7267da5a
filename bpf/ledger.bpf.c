/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Who opened what a target holds, who used it last, and what was said last:
 *   connects   TCP's states: who connects, and every end of a connection however it came
 *   sends      the last use of a socket, with what was sent
 *   enters     system calls that close, for what has no states
 *   leaves     system calls that make descriptors, or accept; sends, where the kernel has no hook for them
 *   forks, executes, exits   processes that come and go
 *   encrypts, encrypts_go  what libraries for TLS are handed (tls.h)
 *   threads    the threads of a process, with where each was when it entered the kernel
 *
 * Nothing is streamed but what has ended and stacks whose path is new. All else stays here, overwritten in place, until it is
 * asked for. Whoever is no target is turned away by one look-up. What finds no room is counted.
 */
#include "ledger.h"
#include "stack.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct calls);
} calls SEC(".maps");

/* By the address of the socket, or of the open file. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct opening);
} openings SEC(".maps");

/* By the address of the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, u64);
	__type(value, struct use);
} uses SEC(".maps");

/* What an entry of `uses` begins with. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct use);
} no_use SEC(".maps");

/* Writes that prepared statements which later ones name. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct prepared_key);
	__type(value, struct prepared);
} prepared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct prepared);
} prepared_scratch SEC(".maps");

/* Of those that end with messages, one in so many is handed on with them. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} one_in SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} endings SEC(".maps");

/* It looks into the uses of sockets. */
#include "tls.h"

static __always_inline struct target *target_now(u32 *tgid)
{
	*tgid = bpf_get_current_pid_tgid() >> 32;
	return bpf_map_lookup_elem(&targets, tgid);
}

static __always_inline void put_who(struct who *who, struct target *target, u32 tgid, u64 path)
{
	who->at = bpf_ktime_get_boot_ns();
	who->path = path;
	who->tgid = tgid;
	who->tid = tid_at(target->tid_level);
	bpf_get_current_comm(who->thread, sizeof(who->thread));
}

/* `opening` says what it is; who opens it is this thread. */
__noinline u32 opens(struct target *target, u64 *object, struct opening *opening)
{
	if (!target || !object || !opening)
		return 0;
	put_who(&opening->by, target, bpf_get_current_pid_tgid() >> 32, take_stack(target, 0));
	if (bpf_map_update_elem(&openings, object, opening, BPF_ANY))
		lose(OPENINGS);
	return 0;
}

static __always_inline void put_protocol(struct opening *opening, struct sock *sk)
{
	opening->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	opening->type = BPF_CORE_READ(sk, sk_type);
	opening->protocol = BPF_CORE_READ(sk, sk_protocol);
}

/* The last descriptor of a file has been closed, or is by the one who asks. */
static __always_inline bool is_held(struct file *file, long long by_others_than)
{
	long long held;

	if (bpf_core_field_exists(file->f_ref))
		held = BPF_CORE_READ(file, f_ref.refcnt.counter) + 1;
	else
		held = BPF_CORE_READ(file, f_count.counter);
	return held > by_others_than;
}

static __always_inline void put_connection(struct ended *ended, struct sock *sk)
{
	struct inet_sock *inet = (struct inet_sock *)sk;
	u32 *local = (u32 *)ended->local, *remote = (u32 *)ended->remote;
	u16 family = ended->opening.family;

	if (family != AF_INET && family != AF_INET6)
		return;
	/* The port that it is bound to is taken away before the end of a connection is told. */
	ended->local_port = bpf_ntohs(BPF_CORE_READ(inet, inet_sport));
	ended->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (family == AF_INET) {
		local[0] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		remote[0] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	} else if (bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		BPF_CORE_READ_INTO(&ended->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&ended->remote, sk, __sk_common.skc_v6_daddr);
	}
	if (ended->opening.type != SOCK_STREAM || ended->opening.protocol != IPPROTO_TCP)
		return;
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	ended->bytes_sent = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans);
	ended->bytes_received = BPF_CORE_READ(tcp, bytes_received);
}

static __always_inline void put_ended(struct ended *ended, u64 object, struct opening *opening, struct use *use)
{
	__builtin_memset(ended, 0, sizeof(*ended));
	ended->told.sort = ENDED;
	ended->told.tgid = opening->by.tgid;
	ended->told.at = bpf_ktime_get_boot_ns();
	ended->object = object;
	ended->opening = *opening;
	if (use) {
		ended->last_use = use->by;
		ended->sends = use->sends;
	}
}

static __always_inline bool is_chosen(void)
{
	u32 only = 0, *share = bpf_map_lookup_elem(&one_in, &only);

	return share && (*share <= 1 || bpf_get_prandom_u32() % *share == 0);
}

/* Hands on that something is closed. */
__noinline u32 ends(u64 *of)
{
	if (!of)
		return 0;
	u64 object = *of;
	struct opening *opening = bpf_map_lookup_elem(&openings, &object);
	struct use *use = bpf_map_lookup_elem(&uses, &object);

	if (!opening)
		return 0;
	struct sock *sk = opening->kind == SOCKET ? (struct sock *)object : NULL;
	if (use && use->inode != opening->inode)
		use = NULL;
	if (use && is_chosen()) {
		struct ended_with_messages *it = bpf_ringbuf_reserve(&endings, sizeof(*it), 0);
		if (it) {
			put_ended(&it->ended, object, opening, use);
			if (sk)
				put_connection(&it->ended, sk);
			it->ended.has_messages = 1;
			it->prepared = use->prepared;
			bpf_probe_read_kernel(it->messages, sizeof(it->messages), use->messages);
			bpf_ringbuf_submit(it, BPF_RB_NO_WAKEUP);
		} else {
			lose(ENDINGS);
		}
	} else {
		struct ended *it = bpf_ringbuf_reserve(&endings, sizeof(*it), 0);
		if (it) {
			put_ended(it, object, opening, use);
			if (sk)
				put_connection(it, sk);
			bpf_ringbuf_submit(it, BPF_RB_NO_WAKEUP);
		} else {
			lose(ENDINGS);
		}
	}
	bpf_map_delete_elem(&openings, &object);
	if (use)
		bpf_map_delete_elem(&uses, &object);
	return 0;
}

static __always_inline void tell(u32 sort, u32 tgid)
{
	struct told *told = bpf_ringbuf_reserve(&endings, sizeof(*told), 0);

	if (!told)
		return lose(ENDINGS);
	told->sort = sort;
	told->tgid = tgid;
	told->at = bpf_ktime_get_boot_ns();
	bpf_ringbuf_submit(told, BPF_RB_NO_WAKEUP);
}

/*
 * A connection may end in any context, and while its descriptor stays open: by the peer. Only what is being closed has a file
 * that nobody holds, or none.
 */
static __always_inline bool is_being_closed(struct sock *sk)
{
	struct socket *socket = BPF_CORE_READ(sk, sk_socket);
	struct file *file = socket ? BPF_CORE_READ(socket, file) : NULL;

	return !file || !is_held(file, 0);
}

SEC("tp_btf/inet_sock_set_state")
int connects(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	int now = ctx[2];
	u64 object = (u64)sk;
	u32 tgid;

	if (now == TCP_SYN_SENT) {
		struct target *target = target_now(&tgid);
		struct opening opening = { .how = CONNECTED, .kind = SOCKET };
		if (!target)
			return 0;
		opening.inode = inode_of_sock(sk);
		put_protocol(&opening, sk);
		opens(target, &object, &opening);
		return 0;
	}
	if (now != TCP_FIN_WAIT1 && now != TCP_LAST_ACK && now != TCP_CLOSING && now != TCP_CLOSE)
		return 0;
	struct opening *opening = bpf_map_lookup_elem(&openings, &object);
	if (opening && is_being_closed(sk))
		ends(&object);
	return 0;
}

/* Where a system call that sends has what it sends; 0 where that can't be told. */
static __always_inline u64 payload_of(struct pt_regs *registers, u32 call)
{
	struct iovec vector[2] = {};
	struct user_msghdr header = {};
	void *from = (void *)registers->si;

	if (call == SENDS_BUFFER)
		return registers->si;
	if (call == SENDS_MESSAGE || call == SENDS_MESSAGES) {
		if (bpf_probe_read_user(&header, sizeof(header), from))
			return 0;
		from = header.msg_iov;
		if (header.msg_iovlen == 1)
			return bpf_probe_read_user(vector, sizeof(vector[0]), from) ? 0 : (u64)vector[0].iov_base;
	} else if (call != SENDS_VECTOR) {
		return 0;
	} else if (registers->dx == 1) {
		return bpf_probe_read_user(vector, sizeof(vector[0]), from) ? 0 : (u64)vector[0].iov_base;
	}
	/* A frame's header may stand by itself. */
	if (bpf_probe_read_user(vector, sizeof(vector), from))
		return 0;
	return (u64)(vector[0].iov_len >= 16 ? vector[0].iov_base : vector[1].iov_base);
}

static __always_inline u32 call_of(struct pt_regs *registers)
{
	u32 only = 0, number = registers->orig_ax;
	struct calls *of = bpf_map_lookup_elem(&calls, &only);

	return of && number < CALLS_MAX ? of->of[number & (CALLS_MAX - 1)] : NO_CALL;
}

/*
 * A statement whose text later writes don't repeat: MySQL's COM_STMT_PREPARE; PostgreSQL's Parse, unless it has no name and its
 * execution follows in the same write. Messages there are a letter and a length that counts itself.
 */
static __always_inline bool is_preparing(struct message *message)
{
	u32 at = 0, kept = message->kept;
	bool is_parsed = false, is_bound = false;

	if (kept < 7)
		return false;
	if (message->bytes[4] == 0x16)
		return true;
	for (u32 i = 0; i < 4; i++) {
		if (at + 6 > kept || at + 6 > MESSAGE_BYTES)
			break;
		u8 *bytes = message->bytes + at;
		if (bytes[0] == 'P' && bytes[5])
			return true;
		is_parsed |= bytes[0] == 'P';
		is_bound |= bytes[0] == 'B';
		/* The length of what was kept has two bytes at the most. */
		if (bytes[1] || bytes[2])
			break;
		at = (at + 1 + (bytes[3] << 8 | bytes[4])) & (2 * MESSAGE_BYTES - 1);
	}
	return is_parsed && !is_bound;
}

__noinline u32 keep_prepared(u64 object, struct use *use, struct message *message)
{
	u32 only = 0;
	struct prepared *scratch = bpf_map_lookup_elem(&prepared_scratch, &only);

	if (!scratch || !use || !message)
		return 0;
	struct prepared_key key = { .object = object, .number = use->prepared++ % PREPARED };
	scratch->inode = use->inode;
	scratch->kept = message->kept;
	bpf_probe_read_kernel(scratch->bytes, sizeof(scratch->bytes), message->bytes);
	bpf_map_update_elem(&prepared, &key, scratch, BPF_ANY);
	return 0;
}

static __always_inline void put_message(struct message *message, u64 at, struct pt_regs *registers, u32 length)
{
	u32 call = call_of(registers);
	u64 payload = payload_of(registers, call);
	u32 kept = length < MESSAGE_BYTES ? length : MESSAGE_BYTES;

	message->at = at;
	message->length = length;
	message->flags = call == SENDS_FILE ? FROM_FILE : 0;
	message->kept = 0;
	if (payload && !bpf_probe_read_user(message->bytes, kept, (void *)payload))
		message->kept = kept;
}

__noinline u32 used(struct target *target, u64 *of, u64 inode, u32 length)
{
	u32 only = 0;

	if (!target || !of)
		return 0;
	u64 object = *of;
	struct use *use = bpf_map_lookup_elem(&uses, &object);
	/* An address is used again. */
	if (!use || use->inode != inode) {
		struct use *none = bpf_map_lookup_elem(&no_use, &only);
		if (!none)
			return 0;
		if (bpf_map_update_elem(&uses, &object, none, BPF_ANY)) {
			lose(USES);
			return 0;
		}
		use = bpf_map_lookup_elem(&uses, &object);
		if (!use)
			return 0;
		use->inode = inode;
	}
	struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	put_who(&use->by, target, bpf_get_current_pid_tgid() >> 32, take_stack(target, use->by.path));
	struct message *message = &use->messages[use->sends++ % MESSAGES];
	put_message(message, use->by.at, registers, length);
	reveal(object, inode, message);
	if (is_preparing(message))
		keep_prepared(object, use, message);
	return 0;
}

SEC("tp_btf/sock_send_length")
int sends(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	u64 object = (u64)sk;
	int sent = ctx[1];
	u32 tgid;
	struct target *target = target_now(&tgid);

	if (!target || sent <= 0)
		return 0;
	u16 family = sk->__sk_common.skc_family;
	if (family == AF_INET || family == AF_INET6 || family == AF_UNIX)
		used(target, &object, inode_of_sock(sk), sent);
	return 0;
}

static __always_inline struct file *file_of(u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(bpf_get_current_task_btf(), files, fdt);
	struct file *file = NULL;

	if (!table || fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), BPF_CORE_READ(table, fd) + fd);
	return file;
}

static __always_inline struct sock *sock_of_file(struct file *file)
{
	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	struct socket *socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

__noinline u32 made(struct target *target, u32 fd, u32 how)
{
	struct file *file = file_of(fd);

	if (!file)
		return 0;
	struct sock *sk = sock_of_file(file);
	u64 object = sk ? (u64)sk : (u64)file;
	struct opening opening = { .fd = fd, .how = how, .kind = kind_of_file(file) };
	opening.inode = BPF_CORE_READ(file, f_inode, i_ino);
	if (sk)
		put_protocol(&opening, sk);
	opens(target, &object, &opening);
	return 0;
}

static __always_inline void made_two(struct target *target, u64 where)
{
	u32 fds[2];

	if (bpf_probe_read_user(fds, sizeof(fds), (void *)where))
		return;
	made(target, fds[0], CREATED);
	made(target, fds[1], CREATED);
}

__noinline u32 sent_by_call(struct target *target, u32 fd, u32 length)
{
	struct file *file = file_of(fd);
	struct sock *sk = file ? sock_of_file(file) : NULL;
	u16 family = sk ? BPF_CORE_READ(sk, __sk_common.skc_family) : 0;

	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return 0;
	u64 object = (u64)sk;
	used(target, &object, BPF_CORE_READ(file, f_inode, i_ino), length);
	return 0;
}

SEC("tp_btf/sys_exit")
int leaves(u64 *ctx)
{
	struct pt_regs *registers = (void *)ctx[0];
	long result = ctx[1];
	u32 tgid, call = call_of(registers);

	if (call == NO_CALL || result < 0)
		return 0;
	struct target *target = target_now(&tgid);
	if (!target)
		return 0;
	if (call == CREATES)
		made(target, result, CREATED);
	else if (call == ACCEPTS)
		made(target, result, ACCEPTED);
	else if (call == CREATES_PIPE)
		made_two(target, registers->di);
	else if (call == CREATES_PAIR)
		made_two(target, registers->r10);
	else if (call >= SENDS_BUFFER && target->flags & SENDS_BY_CALLS && result > 0)
		sent_by_call(target, registers->di, result);
	return 0;
}

/* What is closed by descriptor, where it is the last one: connections of TCP tell their end themselves. */
__noinline u32 closes(u32 fd)
{
	struct file *file = file_of(fd);

	if (!file)
		return 0;
	struct sock *sk = sock_of_file(file);
	u64 object = sk ? (u64)sk : (u64)file;
	struct opening *opening = bpf_map_lookup_elem(&openings, &object);
	if (!opening || is_held(file, 1))
		return 0;
	if (sk && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP && BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_CLOSE)
		return 0;
	ends(&object);
	return 0;
}

SEC("tp_btf/sys_enter")
int enters(u64 *ctx)
{
	struct pt_regs *registers = (void *)ctx[0];
	u32 tgid, call = call_of(registers);

	if (call != CLOSES && call != CLOSES_RANGE && call != REPLACES)
		return 0;
	if (!target_now(&tgid))
		return 0;
	if (call == CLOSES)
		closes(registers->di);
	else if (call == REPLACES)
		closes(registers->si);
	else
		tell(LOOK_AGAIN, tgid);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int forks(u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0], *child = (void *)ctx[1];
	u32 tgid = parent->tgid, number = child->tgid;

	/* A thread is none. */
	if (number != child->pid)
		return 0;
	struct target *target = bpf_map_lookup_elem(&targets, &tgid);
	/* Until it runs another program all stands in it where it stands in its parent. */
	if (target && target->flags & WITH_CHILDREN && bpf_map_update_elem(&targets, &number, target, BPF_NOEXIST))
		lose(PROCESSES);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int executes(u64 *ctx __attribute__((unused)))
{
	u32 tgid;
	struct target *target = target_now(&tgid);

	if (!target)
		return 0;
	target->runtime.number = 0;
	target->code_count = 0;
	target->main.bytes = 0;
	target->libraries.bytes = 0;
	tell(EXECUTED, tgid);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int exits(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	u32 tgid = task->tgid;

	if (task->signal->live.counter || !bpf_map_lookup_elem(&targets, &tgid))
		return 0;
	bpf_map_delete_elem(&targets, &tgid);
	tell(EXITED, tgid);
	return 0;
}

/* A thread, with its registers as they were when it entered the kernel; src/ledger/threads.rs reads it. */
struct thread {
	u64 started; /* its process, nanoseconds since boot */
	u64 ip;
	u64 sp;
	u64 bp;
	u64 fsbase;
	u64 call;
	u64 switches; /* how often it has let others run: the same number twice, and it has waited throughout */
	u32 tgid;
	u32 pid; /* of its process, in the reader's pid namespace */
	u32 tid;
	u32 state; /* 0: runs */
	u32 level; /* of the reader's pid namespace */
	u32 unused;
	char name[THREAD_BYTES];
};

SEC("iter/task")
int threads(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct thread thread = {};

	if (!task)
		return 0;
	struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(task);
	u32 level = bpf_get_current_task_btf()->thread_pid->level;
	thread.started = task->group_leader->start_boottime;
	thread.ip = BPF_CORE_READ(registers, ip);
	thread.sp = BPF_CORE_READ(registers, sp);
	thread.bp = BPF_CORE_READ(registers, bp);
	thread.call = BPF_CORE_READ(registers, orig_ax);
	thread.fsbase = task->thread.fsbase;
	thread.switches = task->nvcsw + task->nivcsw;
	thread.tgid = task->tgid;
	thread.pid = number_at(task->group_leader, level);
	thread.tid = number_at(task, level);
	thread.state = task->__state;
	thread.level = level;
	bpf_probe_read_kernel(thread.name, sizeof(thread.name), task->comm);
	bpf_seq_write(ctx->meta->seq, &thread, sizeof(thread));
	return 0;
}
