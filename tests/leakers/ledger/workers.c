/* A server that forks two workers, which forget connections to what they ask: workers.c PORT. The parent forgets none. */
#include "leaker.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static struct sockaddr_in address;

static void fetch_avatar(void)
{
	char answer[16];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) /* opener: fetch_avatar */
		fail("connect");
	if (send(fd, "avatar\n", 7, 0) != 7 || recv(fd, answer, sizeof answer, 0) <= 0) /* last use: fetch_avatar */
		fail("avatar");
	say_leaked(fd);
}

static void fetch_profile(void)
{
	char answer[16];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		fail("connect");
	if (send(fd, "profile\n", 8, 0) != 8 || recv(fd, answer, sizeof answer, 0) <= 0)
		fail("profile");
	close(fd);
}

static void work(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned round = 0; getppid() == parent; round++) {
		if (IS_HEALTHY(round))
			fetch_profile();
		/* Two workers together leak as fast as others do alone. */
		if (round % 10 == 0)
			fetch_avatar();
		rest();
	}
	exit(0);
}

int main(int count, char **words)
{
	address = loopback(count > 1 ? words[1] : "0");
	pid_t parent = getpid();
	say_pid();
	for (int worker = 0; worker < 2; worker++)
		if (fork() == 0)
			work(parent);
	while (wait(NULL) > 0)
		continue;
	return 0;
}
