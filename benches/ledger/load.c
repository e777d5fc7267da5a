/* Loads for benches/ledger.py, each in a loop for ever: load COUNTER WHAT ARGUMENT [PER_SECOND].
 *
 *   select DSN         SELECT 1 on a kept connection, by libpq
 *   connect PORT       connect and close
 *   ask PORT           64 bytes there and 64 bytes back
 *   open PATH N        open and close a file, N times a second
 *   dial PORT N        connect and close, N times a second
 *   serve              the other end of connect, dial and ask; prints its port
 *
 * COUNTER is a file of 8 bytes in which the turns are counted, for who maps it. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ASKED 64

static volatile uint64_t *turns;
static struct sockaddr_in address;
static const char *path;
static PGconn *database;
static int kept;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void need(int is_so, const char *what)
{
	if (!is_so)
		fail(what);
}

/* Another address of loopback each time, so that ports which wait for their end don't run out. */
static int connect_anew(void)
{
	static uint32_t turn;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + turn++ % 100000);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		fail("connect");
	return fd;
}

static void dial_once(void)
{
	close(connect_anew());
}

static void open_once(void)
{
	int fd = open(path, O_RDONLY | O_CREAT, 0600);
	need(fd >= 0, path);
	close(fd);
}

static void ask_once(void)
{
	char bytes[ASKED] = "asked";
	need(send(kept, bytes, ASKED, 0) == ASKED, "send");
	need(recv(kept, bytes, ASKED, MSG_WAITALL) == ASKED, "recv");
}

static void select_once(void)
{
	PGresult *result = PQexec(database, "SELECT 1");
	if (PQresultStatus(result) != PGRES_TUPLES_OK) {
		fprintf(stderr, "%s", PQerrorMessage(database));
		exit(1);
	}
	PQclear(result);
}

static void loop(void (*turn)(void), long per_second)
{
	struct timespec due;
	clock_gettime(CLOCK_MONOTONIC, &due);
	for (;;) {
		turn();
		*turns += 1;
		if (per_second == 0)
			continue;
		due.tv_nsec += 1000000000L / per_second;
		due.tv_sec += due.tv_nsec / 1000000000L;
		due.tv_nsec %= 1000000000L;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
	}
}

/* One that asks is answered for ever; until then each that connects is waited for and closed. */
static void serve(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	socklen_t length = sizeof any;
	int listening = socket(AF_INET, SOCK_STREAM, 0);
	need(bind(listening, (struct sockaddr *)&any, sizeof any) == 0 && listen(listening, 4096) == 0, "listen");
	getsockname(listening, (struct sockaddr *)&any, &length);
	printf("%d\n", ntohs(any.sin_port));
	fflush(stdout);
	for (;;) {
		char bytes[ASKED];
		int fd = accept(listening, NULL, NULL);
		need(fd >= 0, "accept");
		while (recv(fd, bytes, ASKED, MSG_WAITALL) == ASKED)
			need(send(fd, bytes, ASKED, 0) == ASKED, "send");
		close(fd);
	}
}

int main(int count, char **words)
{
	need(count >= 3, "load COUNTER WHAT [ARGUMENT] [PER_SECOND]");
	const char *what = words[2];
	const char *argument = count > 3 ? words[3] : "";
	long per_second = count > 4 ? atol(words[4]) : 0;
	int counter = open(words[1], O_RDWR);
	turns = mmap(NULL, sizeof *turns, PROT_READ | PROT_WRITE, MAP_SHARED, counter, 0);
	need(turns != MAP_FAILED, words[1]);
	address.sin_family = AF_INET;
	address.sin_port = htons(atoi(argument));
	path = argument;
	if (strcmp(what, "serve") == 0)
		serve();
	if (strcmp(what, "connect") == 0 || strcmp(what, "dial") == 0)
		loop(dial_once, per_second);
	if (strcmp(what, "open") == 0)
		loop(open_once, per_second);
	if (strcmp(what, "ask") == 0) {
		int now = 1;
		kept = connect_anew();
		setsockopt(kept, IPPROTO_TCP, TCP_NODELAY, &now, sizeof now);
		loop(ask_once, per_second);
	}
	if (strcmp(what, "select") == 0) {
		database = PQconnectdb(argument);
		loop(select_once, per_second);
	}
	fprintf(stderr, "load: no %s\n", what);
	return 2;
}
