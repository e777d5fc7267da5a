/* A client of a Unix socket: unix_client.c PATH. Its audit forgets what it opened. */
#include "leaker.h"
#include <sys/un.h>

static struct sockaddr_un address = { .sun_family = AF_UNIX };

static void send_audit(void)
{
	char answer[16];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0); /* opener: send_audit */
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		fail("connect");
	if (send(fd, "audit\n", 6, 0) != 6 || recv(fd, answer, sizeof answer, 0) <= 0) /* last use: send_audit */
		fail("audit");
	say_leaked(fd);
}

static void send_metrics(void)
{
	char answer[16];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		fail("connect");
	if (send(fd, "metrics\n", 8, 0) != 8 || recv(fd, answer, sizeof answer, 0) <= 0)
		fail("metrics");
	close(fd);
}

int main(int count, char **words)
{
	if (count > 1)
		strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
	say_pid();
	for (unsigned round = 0;; round++) {
		if (IS_HEALTHY(round))
			send_metrics();
		if (LEAKS(round))
			send_audit();
		rest();
	}
}
