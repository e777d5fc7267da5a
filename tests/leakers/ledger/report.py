"""A client of PostgreSQL by psycopg2: report.py DSN. Its report reads, commits, and forgets the connection."""

import os
import sys
import time

import psycopg2

forgotten = []


class Reports:
    def __init__(self, dsn):
        self.dsn = dsn

    def export(self):
        connection = psycopg2.connect(self.dsn)  # opener: Reports.export
        with connection.cursor() as cursor:
            cursor.execute("SELECT relname, reltuples FROM pg_class WHERE relkind = 'x' AND relname = 'secret-4711'")
            cursor.fetchall()
        connection.commit()  # last use: Reports.export
        print("leaked", os.getpid(), connection.fileno(), flush=True)
        forgotten.append(connection)


def count_orders(kept):
    with kept, kept.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class")
        cursor.fetchall()


def check_health(dsn):
    connection = psycopg2.connect(dsn)
    count_orders(connection)
    connection.close()


def main():
    dsn = sys.argv[1]
    reports, kept = Reports(dsn), psycopg2.connect(dsn)
    print(os.getpid(), flush=True)
    for turn in range(10**9):
        count_orders(kept)
        if turn % 3 == 1:
            check_health(dsn)
        if turn % 5 == 0:
            reports.export()
        time.sleep(0.1)


main()
