/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the ledger keeps, and what it hands on; src/ledger/records.rs reads it. */
#pragma once

#include "file.h"
#include "runtime.h"

#define PAGE_BYTES 4096
/* A page that has begun, and four whole ones. */
#define STACK_BYTES (5 * PAGE_BYTES)
#define KEY_WORDS_MAX 1024
#define KEY_BLOCK 32
#define CODE_MAX 16
#define MESSAGES 4
#define MESSAGE_BYTES 512
#define PREPARED 64
#define CALLS_MAX 512
#define THREAD_BYTES 16
#define PATH_BYTES 104

/* What a system call does, by its number: src/ledger/calls.rs fills the table. */
enum call {
	NO_CALL,
	CREATES,       /* gives a descriptor */
	OPENS,         /* of the path that is its first argument */
	OPENS_AT,      /* of its second, from the folder that is its first */
	CREATES_PIPE,  /* writes two to where its first argument points */
	CREATES_PAIR,  /* to where its fourth does */
	ACCEPTS,
	CLOSES,        /* its first argument */
	CLOSES_RANGE,
	REPLACES,      /* its second argument */
	SENDS_BUFFER,  /* the second argument */
	SENDS_VECTOR,
	SENDS_MESSAGE,
	SENDS_MESSAGES,
	SENDS_FILE,
};

struct calls {
	u8 of[CALLS_MAX];
};

struct range {
	u64 start;
	u64 bytes;
};

/* A process that is watched. */
struct target {
	u32 flags;
	u32 key_words; /* words of the stack's top in which return addresses are looked for, to tell paths apart */
	u32 tid_level; /* of our pid namespace */
	u32 code_count;
	struct range main;      /* code of the program */
	struct range libraries; /* from the first to the last byte of code of all others */
	struct range code[CODE_MAX];
	struct runtime runtime;
};

/* Flags of a target. */
#define BY_CALLS 1   /* every kind of descriptor, not connections alone */
#define SENDS_BY_CALLS 2 /* the kernel has no hook for sends */
#define WITH_CHILDREN 4

/* How it was opened. */
enum how { CONNECTED, ACCEPTED, CREATED };

struct who {
	u64 at;   /* nanoseconds since boot */
	u64 path; /* the key of its stack; 0: none */
	u32 tgid;
	u32 tid; /* in our pid namespace */
	char thread[THREAD_BYTES];
};

struct opening {
	u64 inode;
	struct who by;
	u32 fd;
	u8 how;
	u8 kind;
	u16 family;
	u16 type; /* of what is no socket: the number of the system call that made it */
	u16 protocol;
	s32 folder; /* the descriptor that a relative path begins at */
	char path[PATH_BYTES]; /* of a file, as it was asked for; empty: unknown */
};

struct message {
	u64 at;
	u32 length;
	u16 kept;
	u8 flags;
	u8 unused;
	u8 bytes[MESSAGE_BYTES];
};

/* Flags of a message. */
#define ENCRYPTED 1 /* what was written before it was encrypted is not known */
#define FROM_FILE 2 /* the kernel took it from a file */

struct use {
	u64 inode;
	struct who by;
	u32 sends;
	u32 prepared; /* how many writes prepared a statement */
	struct message messages[MESSAGES];
};

struct prepared_key {
	u64 object;
	u64 number;
};

struct prepared {
	u64 inode;
	u32 kept;
	u32 unused;
	u8 bytes[MESSAGE_BYTES];
};

/* A stack of a path that is new. */
struct stack {
	u64 key;
	u64 ip;
	u64 sp;
	u64 bp;
	u32 tgid;
	u32 runtime;
	u32 stack_bytes;
	u32 unused;
	struct runtime_taken taken;
	u8 stack[STACK_BYTES];
};

/* What the reader is told of in their order. */
enum sort { ENDED, LOOK_AGAIN, EXECUTED, EXITED };

struct told {
	u32 sort;
	u32 tgid;
	u64 at;
};

struct ended {
	struct told told;
	u64 object;
	struct opening opening;
	struct who last_use; /* path and time 0: nobody */
	u32 sends;
	u16 local_port;
	u16 remote_port;
	u8 has_messages;
	u8 unused[7];
	u8 local[16];
	u8 remote[16];
	u64 bytes_sent;
	u64 bytes_received;
};

struct ended_with_messages {
	struct ended ended;
	u64 prepared;
	struct message messages[MESSAGES];
};

/* What found no room, or could not be had. */
enum lost { OPENINGS, USES, STACKS, ENDINGS, PROCESSES, LOSSES };
