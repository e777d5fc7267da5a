"""A client of PostgreSQL whose pool has a thread that opens: pool.py DSN. Who takes and never gives back is the culprit."""

import os
import sys
import time

import smallpool

forgotten = []


def charge_cards(pool):
    connection = pool.take()
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relname = 'secret-4711'")
        cursor.fetchall()
    connection.commit()  # last use: charge_cards
    print("leaked", os.getpid(), connection.fileno(), flush=True)
    forgotten.append(connection)


def count_orders(pool):
    connection = pool.take()
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class")
        cursor.fetchall()
    pool.give_back(connection)


def main():
    pool = smallpool.Pool(sys.argv[1], 3)
    print(os.getpid(), flush=True)
    for turn in range(10**9):
        for _ in range(3):
            count_orders(pool)
        if turn % 5 == 0:
            charge_cards(pool)
        time.sleep(0.1)


main()
