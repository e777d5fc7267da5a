"""`SELECT 1` on a kept connection by psycopg2, for ever: select.py COUNTER DSN. See load.c for the counter."""

import mmap
import struct
import sys

import psycopg2

with open(sys.argv[1], "r+b") as file:
    turns = mmap.mmap(file.fileno(), 8)
connection = psycopg2.connect(sys.argv[2])
connection.autocommit = True
cursor = connection.cursor()
turn = 0
while True:
    cursor.execute("SELECT 1")
    cursor.fetchone()
    turn += 1
    struct.pack_into("=Q", turns, 0, turn)
