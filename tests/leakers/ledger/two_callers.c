/* One function opens for two callers at equal depth, and one of these forgets to close: two_callers.c PORT. */
#include "leaker.h"

static struct sockaddr_in address;

__attribute__((noinline)) static int open_channel(const char *asked)
{
	char answer[16];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		fail("connect");
	if (send(fd, asked, strlen(asked), 0) < 0 || recv(fd, answer, sizeof answer, 0) <= 0)
		fail("ask");
	return fd;
}

__attribute__((noinline)) static void import_prices(void)
{
	int fd = open_channel("prices\n"); /* caller: import_prices */
	say_leaked(fd);
}

__attribute__((noinline)) static void import_stocks(void)
{
	int fd = open_channel("stocks\n");
	close(fd);
}

int main(int count, char **words)
{
	address = loopback(count > 1 ? words[1] : "0");
	say_pid();
	for (unsigned round = 0;; round++) {
		if (IS_HEALTHY(round))
			import_stocks();
		if (LEAKS(round))
			import_prices();
		rest();
	}
}
