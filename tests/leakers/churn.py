#!/usr/bin/env python3
"""A TCP client and its server on loopback: healthy traffic, and on demand a path that forgets to close.

    churn.py [--healthy-per-second 5] [--leak-per-second 1] [--seconds 60] [--plateau 20]

Prints its pid on the first line (that of the client, the process to watch), then `server PID port PORT`, then one line
`leaked N` for each connection that it forgets. The server is a process of its own, so that each connection has but one
end in the watched one. Runs until it is killed, or for `--seconds`. Standard library only.
"""

import argparse
import os
import random
import selectors
import signal
import socket
import sys
import threading
import time

HELLO, ORDER, REPORT = b"hello\n", b"order\n", b"report\n"


def serve(listening, parent):
    """Answers each line until the client closes; ends with its parent, however that ends."""
    ready = selectors.DefaultSelector()
    ready.register(listening, selectors.EVENT_READ)
    while os.getppid() == parent:
        for key, _ in ready.select(timeout=0.5):
            if key.fileobj is listening:
                ready.register(listening.accept()[0], selectors.EVENT_READ)
                continue
            try:
                asked = key.fileobj.recv(4096)
                if asked:
                    key.fileobj.sendall(b"no data\n" if asked == REPORT else b"ok\n")
            except ConnectionError:
                asked = b""
            if not asked:
                ready.unregister(key.fileobj)
                key.fileobj.close()


class Client:
    def __init__(self, address):
        self.address = address
        # The bug: who is here is taken out only after an answer with data.
        self.reports_pending = []

    def ask(self, connection, line):
        connection.sendall(line)
        return connection.recv(4096)

    def place_order(self):
        """The healthy path: used a few times within a second, then closed."""
        with socket.create_connection(self.address) as connection:
            self.ask(connection, HELLO)
            for _ in range(random.randint(1, 3)):
                time.sleep(random.uniform(0.05, 0.3))
                self.ask(connection, ORDER)

    def fetch_report(self):
        """The leaking path: the early return forgets the connection."""
        connection = socket.create_connection(self.address)
        self.reports_pending.append(connection)
        self.ask(connection, HELLO)
        if self.ask(connection, REPORT) == b"no data\n":
            return
        self.reports_pending.remove(connection)
        connection.close()


def in_the_background(work):
    threading.Thread(target=work, daemon=True).start()


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--healthy-per-second", type=float, default=5.0)
    flags.add_argument("--leak-per-second", type=float, default=0.0)
    flags.add_argument("--plateau", type=int, help="forget no more than this many, as a drained pool")
    flags.add_argument("--seconds", type=float, default=float("inf"))
    options = flags.parse_args()

    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    address = listening.getsockname()
    parent = os.getpid()
    server = os.fork()
    if server == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        serve(listening, parent)
        os._exit(0)
    listening.close()
    print(os.getpid(), flush=True)
    print(f"server {server} port {address[1]}", flush=True)

    client = Client(address)
    begin = time.monotonic()
    next_healthy = next_leak = 0.0
    while (now := time.monotonic() - begin) < options.seconds:
        if options.healthy_per_second > 0 and now >= next_healthy:
            in_the_background(client.place_order)
            next_healthy = now + random.expovariate(options.healthy_per_second)
        wanted = options.plateau is None or len(client.reports_pending) < options.plateau
        if options.leak_per_second > 0 and now >= next_leak and wanted:
            client.fetch_report()
            print(f"leaked {len(client.reports_pending)}", flush=True)
            next_leak += 1 / options.leak_per_second
        time.sleep(0.01)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
