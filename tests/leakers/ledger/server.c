/* A server on loopback that forgets the clients who hung up: each stays in CLOSE_WAIT. Its own child is the clients. */
#include "leaker.h"
#include <signal.h>
#include <sys/prctl.h>

static void keep_uploader(int listening)
{
	char asked[16];
	int fd = accept(listening, NULL, NULL); /* opener: keep_uploader */
	if (fd < 0 || recv(fd, asked, sizeof asked, 0) <= 0)
		fail("accept");
	if (send(fd, "welcome\n", 8, 0) != 8) /* last use: keep_uploader */
		fail("send");
	say_leaked(fd);
}

static void answer_visitor(int listening)
{
	char asked[16];
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 || recv(fd, asked, sizeof asked, 0) <= 0)
		fail("accept");
	if (send(fd, "here\n", 5, 0) != 5)
		fail("send");
	close(fd);
}

static int listen_on_loopback(struct sockaddr_in *address)
{
	socklen_t length = sizeof *address;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	*address = loopback("0");
	if (bind(fd, (struct sockaddr *)address, length) < 0 || listen(fd, 64) < 0)
		fail("listen");
	getsockname(fd, (struct sockaddr *)address, &length);
	return fd;
}

static void visit(const struct sockaddr_in *address)
{
	char answer[16];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 || send(fd, "hello\n", 6, 0) != 6)
		exit(0);
	if (recv(fd, answer, sizeof answer, 0) < 0)
		exit(0);
	close(fd);
}

int main(void)
{
	struct sockaddr_in uploads, visits;
	int uploading = listen_on_loopback(&uploads), visiting = listen_on_loopback(&visits);
	pid_t parent = getpid();
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (unsigned round = 0; getppid() == parent; round++) {
			if (IS_HEALTHY(round))
				visit(&visits);
			if (LEAKS(round))
				visit(&uploads);
			rest();
		}
		exit(0);
	}
	say_pid();
	for (unsigned round = 0;; round++) {
		if (IS_HEALTHY(round))
			answer_visitor(visiting);
		if (LEAKS(round))
			keep_uploader(uploading);
	}
}
