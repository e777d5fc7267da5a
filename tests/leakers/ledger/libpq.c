/* A client of PostgreSQL: libpq.c DSN [prepared]. Its report reads, commits, and forgets to finish the connection. */
#include "leaker.h"
#include <libpq-fe.h>

#define REPORT "SELECT relname, reltuples FROM pg_class WHERE relkind = 'x' AND relname = "

static void need(PGconn *connection)
{
	if (PQstatus(connection) != CONNECTION_OK) {
		fprintf(stderr, "libpq: %s", PQerrorMessage(connection));
		exit(1);
	}
}

static void export_report(const char *dsn)
{
	PGconn *connection = PQconnectdb(dsn); /* opener: export_report */
	need(connection);
	PQclear(PQexec(connection, "BEGIN"));
	PQclear(PQexec(connection, REPORT "'secret-4711'"));
	PQclear(PQexec(connection, "COMMIT")); /* last use: export_report */
	say_leaked(PQsocket(connection));
}

/* The statement's text goes over the wire once, long before the last use. */
static void export_prepared_report(const char *dsn)
{
	PGconn *connection = PQconnectdb(dsn); /* opener: export_prepared_report */
	need(connection);
	PQclear(PQprepare(connection, "report", REPORT "$1", 1, NULL));
	const char *names[] = { "secret-4711" };
	for (int page = 0; page < 6; page++)
		PQclear(PQexecPrepared(connection, "report", 1, names, NULL, NULL, 0));
	PQclear(PQexec(connection, "COMMIT")); /* last use: export_prepared_report */
	say_leaked(PQsocket(connection));
}

static void count_orders(PGconn *kept)
{
	PQclear(PQexec(kept, "SELECT count(*) FROM pg_class"));
}

static void check_health(const char *dsn)
{
	PGconn *connection = PQconnectdb(dsn);
	need(connection);
	PQclear(PQexec(connection, "SELECT 1"));
	PQfinish(connection);
}

int main(int count, char **words)
{
	const char *dsn = words[1];
	int prepared = count > 2 && strcmp(words[2], "prepared") == 0;
	PGconn *kept = PQconnectdb(dsn);
	need(kept);
	say_pid();
	for (unsigned round = 0;; round++) {
		count_orders(kept);
		if (IS_HEALTHY(round))
			check_health(dsn);
		if (LEAKS(round) && prepared)
			export_prepared_report(dsn);
		else if (LEAKS(round))
			export_report(dsn);
		rest();
	}
}
