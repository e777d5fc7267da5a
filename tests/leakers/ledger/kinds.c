/* What is no connection: kinds.c file|pipe|inotify|eventfd FOLDER forgets descriptors of that kind, and closes others. */
#include "leaker.h"
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

/* A user may have but so many inotify instances, often 128. */
#define INOTIFY_MAX 100

static const char *folder;

static void append_journal(unsigned round)
{
	char path[512];
	snprintf(path, sizeof path, "%s/journal-%u", folder, round);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600); /* opener: append_journal */
	if (fd < 0 || write(fd, "entry\n", 6) != 6)
		fail("journal");
	say_leaked(fd);
}

static void read_settings(unsigned round)
{
	char path[512], text[64];
	snprintf(path, sizeof path, "%s/settings-%u", folder, round % 7);
	int fd = open(path, O_RDONLY | O_CREAT, 0600);
	if (fd < 0 || read(fd, text, sizeof text) < 0)
		fail("settings");
	close(fd);
}

static void start_filter(unsigned round)
{
	int ends[2];
	if (pipe(ends) < 0) /* opener: start_filter */
		fail("pipe");
	say_leaked(ends[0]);
	say_leaked(ends[1]);
	(void)round;
}

static void run_filter(unsigned round)
{
	int ends[2];
	if (pipe(ends) < 0)
		fail("pipe");
	close(ends[round % 2]);
	close(ends[1 - round % 2]);
}

static void watch_uploads(unsigned round)
{
	static unsigned forgotten;
	if (forgotten++ >= INOTIFY_MAX)
		return;
	int fd = inotify_init1(IN_CLOEXEC); /* opener: watch_uploads */
	if (fd < 0 || inotify_add_watch(fd, folder, round % 2 ? IN_CREATE : IN_MOVED_TO) < 0)
		fail("inotify");
	say_leaked(fd);
}

static void await_upload(unsigned round)
{
	int fd = inotify_init1(IN_CLOEXEC);
	if (fd < 0 || inotify_add_watch(fd, folder, round % 2 ? IN_DELETE : IN_MOVED_FROM) < 0)
		fail("inotify");
	close(fd);
}

static void arm_wakeup(unsigned round)
{
	int fd = eventfd(round, EFD_CLOEXEC); /* opener: arm_wakeup */
	if (fd < 0)
		fail("eventfd");
	say_leaked(fd);
}

static void wake_once(unsigned round)
{
	int fd = eventfd(round, EFD_CLOEXEC);
	if (fd < 0)
		fail("eventfd");
	close(fd);
}

static const struct kind {
	const char *name;
	void (*forget)(unsigned), (*use)(unsigned);
} kinds[] = {
	{ "file", append_journal, read_settings },
	{ "pipe", start_filter, run_filter },
	{ "inotify", watch_uploads, await_upload },
	{ "eventfd", arm_wakeup, wake_once },
};

int main(int count, char **words)
{
	if (count < 3)
		return 2;
	const struct kind *kind = kinds;
	while (kind < kinds + 3 && strcmp(kind->name, words[1]) != 0)
		kind++;
	folder = words[2];
	say_pid();
	for (unsigned round = 0;; round++) {
		if (IS_HEALTHY(round))
			kind->use(round);
		if (LEAKS(round))
			kind->forget(round);
		rest();
	}
}
