#!/usr/bin/env python3
"""A client of PostgreSQL that works through a small pool, and on demand forgets to close about once a second.

    pg_leak.py --dsn "host=127.0.0.1 dbname=postgres user=postgres" [--leak] [--leak-per-second 1] [--seconds 60]

Prints its pid on the first line, then `leaked PID_OF_THE_SESSION` for each connection that it forgets. Needs psycopg2.
What it leaves behind is the usual riddle: the last statement of each forgotten session is `COMMIT`, the useful one came
before it.
"""

import argparse
import contextlib
import os
import random
import sys
import threading
import time

import psycopg2
import psycopg2.pool

ORDERS = "SELECT count(*), max(oid) FROM pg_class WHERE relname LIKE %s"
REPORT = "SELECT relname, reltuples FROM pg_class WHERE relkind = 'x' AND relname = %s"


class Orders:
    """The healthy part: each query takes a connection from the pool and gives it back."""

    def __init__(self, dsn):
        self.pool = psycopg2.pool.ThreadedConnectionPool(2, 4, dsn)

    def count(self):
        connection = self.pool.getconn()
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(ORDERS, ("pg_" + random.choice("abcdef") + "%",))
                cursor.fetchone()
        finally:
            self.pool.putconn(connection)

    def work(self, pause_seconds):
        while True:
            # A server that the leak has filled refuses new connections; those of the pool go on.
            with contextlib.suppress(psycopg2.OperationalError):
                self.count()
            time.sleep(random.uniform(0.5, 1.5) * pause_seconds)


class Reports:
    """The leaking part: a connection of its own for each report, closed only where the report has rows."""

    def __init__(self, dsn):
        self.dsn = dsn
        self.in_progress = []

    def fetch(self, name):
        connection = psycopg2.connect(self.dsn, application_name="reports")
        self.in_progress.append(connection)
        with connection.cursor() as cursor:
            cursor.execute(REPORT, (name,))
            rows = cursor.fetchall()
        connection.commit()
        if not rows:
            return connection.get_backend_pid()
        self.in_progress.remove(connection)
        connection.close()
        return None


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--dsn", required=True)
    flags.add_argument("--leak", action=argparse.BooleanOptionalAction, default=False)
    flags.add_argument("--leak-per-second", type=float, default=1.0)
    flags.add_argument("--healthy-per-second", type=float, default=10.0, help="queries through the pool")
    flags.add_argument("--seconds", type=float, default=float("inf"))
    options = flags.parse_args()
    print(os.getpid(), flush=True)

    orders = Orders(options.dsn)
    workers = 2
    for _ in range(workers):
        pause_seconds = workers / options.healthy_per_second
        threading.Thread(target=orders.work, args=(pause_seconds,), daemon=True).start()

    reports = Reports(options.dsn)
    begin = time.monotonic()
    while time.monotonic() - begin < options.seconds:
        if not options.leak:
            time.sleep(0.1)
            continue
        try:
            print(f"leaked {reports.fetch('empty')}", flush=True)
        except psycopg2.OperationalError as error:
            # The server has no connection left: the leak has done its work.
            print(f"pg_leak: {str(error).strip()}", file=sys.stderr, flush=True)
            options.leak = False
        time.sleep(random.uniform(0.7, 1.3) / options.leak_per_second)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
