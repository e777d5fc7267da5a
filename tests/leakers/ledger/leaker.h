/* What the leakers in C share: how they tell of themselves, and their pace.
 *
 * Each prints its pid on the first line, then `leaked PID FD` for each descriptor that it forgets. A line whose comment has
 * `opener: NAME` or `last use: NAME` is the one that a watch has to name, and the function it stands in; `caller: NAME` stands
 * where what opens is called by two. */
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Rounds come ten a second; one in five leaks, one in three is healthy. */
#define LEAKS(round) ((round) % 5 == 0)
#define IS_HEALTHY(round) ((round) % 3 == 1)

static inline void say_leaked(int fd)
{
	printf("leaked %d %d\n", getpid(), fd);
	fflush(stdout);
}

static inline void say_pid(void)
{
	printf("%d\n", getpid());
	fflush(stdout);
}

static inline void rest(void)
{
	struct timespec tenth = { 0, 100 * 1000 * 1000 };
	nanosleep(&tenth, NULL);
}

static inline void fail(const char *what)
{
	perror(what);
	exit(1);
}

static inline struct sockaddr_in loopback(const char *port)
{
	struct sockaddr_in address;
	memset(&address, 0, sizeof address);
	address.sin_family = AF_INET;
	address.sin_port = htons(atoi(port));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}
