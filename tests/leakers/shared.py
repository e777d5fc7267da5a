#!/usr/bin/env python3
"""Opens a few things and forks, so that parent and child share them. At SIGUSR1 the parent closes its copies.

Prints one line of JSON and then the line `ready`, and the line `closed` once it has closed:

    {"pid": 3136, "child": 3137, "open": {"file": 5, "eventfd": 6, ...}}

`open` has the number of each descriptor, which is the same in both. Both end when standard input is closed. Standard
library only, Python 3.9 or newer.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import tempfile

LIBC = ctypes.CDLL(None, use_errno=True)


def opened(folder):
    """What is shared, by name; Python must not close it."""
    listening = socket.create_server(("127.0.0.1", 0))
    left, right = socket.socketpair()
    reading, writing = os.pipe()
    path = os.path.join(folder, "file")
    things = {
        "tcp_listen": listening,
        "tcp": socket.create_connection(listening.getsockname()),
        "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "unix_left": left,
        "unix_right": right,
        "pipe_read": reading,
        "pipe_write": writing,
        "file": os.open(path, os.O_RDWR | os.O_CREAT, 0o600),
        "file_again": os.open(path, os.O_RDWR),
        "eventfd": LIBC.eventfd(0, 0),
        "eventfd_other": LIBC.eventfd(0, 0),
        "inotify": LIBC.inotify_init1(0),
    }
    return {name: thing if isinstance(thing, int) else thing.detach() for name, thing in things.items()}


def main():
    with tempfile.TemporaryDirectory(prefix="shared-") as folder:
        shared = opened(folder)
        waiting, waking = os.pipe()
        child = os.fork()
        if child == 0:
            # Until the parent ends.
            os.close(waking)
            os.read(waiting, 1)
            os._exit(0)
        os.close(waiting)

        def close(_signal, _frame):
            for descriptor in shared.values():
                os.close(descriptor)
            print("closed", flush=True)

        signal.signal(signal.SIGUSR1, close)
        print(json.dumps({"pid": os.getpid(), "child": child, "open": shared}), flush=True)
        print("ready", flush=True)
        sys.stdin.read()
        os.close(waking)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
