/* held.c PORT waiting: each payment holds its connection while it waits for a lock in a deadlock. held.c PORT forgotten:
 * each payment's thread ends, and its connection is still open. */
#include "leaker.h"
#include <pthread.h>
#include <stdbool.h>

static struct sockaddr_in address;
static bool waits;
static pthread_mutex_t accounts = PTHREAD_MUTEX_INITIALIZER, audit = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both;

static int ask(const char *asked)
{
	char answer[16];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		fail("connect");
	if (send(fd, asked, strlen(asked), 0) < 0 || recv(fd, answer, sizeof answer, 0) <= 0)
		fail("ask");
	return fd;
}

static void post_to_accounts(void)
{
	pthread_mutex_lock(&accounts); /* now: post_to_accounts */
	pthread_mutex_unlock(&accounts);
}

static void *settle_payment(void *unused)
{
	char answer[16];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) /* opener: settle_payment */
		fail("connect");
	if (send(fd, "payment\n", 8, 0) != 8 || recv(fd, answer, sizeof answer, 0) <= 0) /* last use: settle_payment */
		fail("payment");
	say_leaked(fd);
	if (waits) {
		post_to_accounts();
		close(fd);
	}
	return unused;
}

/* Takes the two locks in the order that the other thread does not. */
static void *close_books(void *wants)
{
	pthread_mutex_t *first = wants, *second = first == &audit ? &accounts : &audit;
	pthread_mutex_lock(first);
	pthread_barrier_wait(&both);
	pthread_mutex_lock(second);
	return NULL;
}

int main(int count, char **words)
{
	address = loopback(count > 1 ? words[1] : "0");
	waits = count > 2 && strcmp(words[2], "waiting") == 0;
	pthread_t thread;
	pthread_barrier_init(&both, NULL, 3);
	if (waits) {
		pthread_create(&thread, NULL, close_books, &audit);
		pthread_create(&thread, NULL, close_books, &accounts);
		pthread_barrier_wait(&both);
	}
	say_pid();
	for (unsigned round = 0;; round++) {
		if (IS_HEALTHY(round))
			close(ask("balance\n"));
		if (LEAKS(round)) {
			pthread_create(&thread, NULL, settle_payment, NULL);
			pthread_detach(thread);
		}
		rest();
	}
}
