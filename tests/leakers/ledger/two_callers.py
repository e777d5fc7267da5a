"""One function opens for two callers at equal depth, and one of these forgets to close: two_callers.py PORT."""

import os
import socket
import sys
import time

forgotten = []


def open_channel(asked):
    channel = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    channel.sendall(asked)
    channel.recv(16)
    return channel


def import_prices():
    channel = open_channel(b"prices\n")  # caller: import_prices
    print("leaked", os.getpid(), channel.fileno(), flush=True)
    forgotten.append(channel)


def import_stocks():
    channel = open_channel(b"stocks\n")
    channel.close()


def main():
    print(os.getpid(), flush=True)
    for turn in range(10**9):
        if turn % 3 == 1:
            import_stocks()
        if turn % 5 == 0:
            import_prices()
        time.sleep(0.1)


main()
