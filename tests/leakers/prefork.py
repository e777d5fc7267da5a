#!/usr/bin/env python3
"""A prefork server on loopback whose workers forget connections to their backend.

    prefork.py [--workers 3] [--leak-per-second 4] [--uid N] [--name NAME]

Prints its pid on the first line (that of the parent, which listens and forks), then `backend PID port PORT`, then
`worker PID` for each worker as it starts, and `leaked PID N` for each connection that a worker forgets. A worker that is
killed is replaced. Every worker inherits the listening socket, and one connection that the parent made before it forked:
resources that all of them hold. With --uid the workers change to that user, with --name they call themselves so. Runs until
it is killed; the backend and the workers end with it. Standard library only.
"""

import argparse
import ctypes
import os
import random
import selectors
import signal
import socket
import sys
import time

# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME = 1, 4, 15


def say(*words):
    """A line at once and in one piece: several processes write to one pipe."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def prctl(option, argument):
    ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)


def fork(parent, work):
    """A child that ends when its parent does, however that ends."""
    pid = os.fork()
    if pid == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
        try:
            work()
        finally:
            os._exit(0)
    return pid


def backend(listening):
    ready = selectors.DefaultSelector()
    ready.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj is listening:
                ready.register(listening.accept()[0], selectors.EVENT_READ)
                continue
            try:
                asked = key.fileobj.recv(4096)
                if asked:
                    key.fileobj.sendall(b"ok\n")
            except ConnectionError:
                asked = b""
            if not asked:
                ready.unregister(key.fileobj)
                key.fileobj.close()


def ask(connection):
    connection.sendall(b"order\n")
    connection.recv(4096)


def worker(options, address):
    if options.name:
        prctl(PR_SET_NAME, options.name.encode())
    if options.uid is not None:
        os.setgroups([])
        os.setgid(options.uid)
        os.setuid(options.uid)
        # A change of user closes the process to that user, too, and has it outlive its parent, unless it says otherwise.
        prctl(PR_SET_DUMPABLE, 1)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    say("worker", os.getpid())
    forgotten = []
    healthy = []
    next_leak = time.monotonic()
    while True:
        now = time.monotonic()
        if options.leak_per_second > 0 and now >= next_leak:
            forgotten.append(socket.create_connection(address))
            ask(forgotten[-1])
            say("leaked", os.getpid(), len(forgotten))
            next_leak += 1 / options.leak_per_second
        # The healthy path: each is closed within half a second.
        connection = socket.create_connection(address)
        ask(connection)
        healthy.append((now + random.uniform(0.1, 0.5), connection))
        for _, done in [it for it in healthy if it[0] < now]:
            done.close()
        healthy = [it for it in healthy if it[0] >= now]
        time.sleep(0.1)


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--workers", type=int, default=3)
    flags.add_argument("--leak-per-second", type=float, default=4.0)
    flags.add_argument("--uid", type=int)
    flags.add_argument("--name")
    options = flags.parse_args()

    behind = socket.create_server(("127.0.0.1", 0), backlog=128)
    address = behind.getsockname()
    parent = os.getpid()
    serving = fork(parent, lambda: backend(behind))
    behind.close()
    front = socket.create_server(("127.0.0.1", 0), backlog=128)
    shared = socket.create_connection(address)
    ask(shared)
    say(parent)
    say("backend", serving, "port", address[1])
    workers = {fork(parent, lambda: worker(options, address)) for _ in range(options.workers)}
    while workers:
        ended, _ = os.wait()
        if ended in workers:
            workers.remove(ended)
            workers.add(fork(parent, lambda: worker(options, address)))
    del front, shared


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
