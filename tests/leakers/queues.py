#!/usr/bin/env python3
"""Opens sockets whose queues are not empty, says which, and waits until its standard input is closed.

Prints one line of JSON, `{"pid": 3136, "open": {"listener": 5, ...}, "inodes": {"listener": 81, ...}}`: the descriptor and
the inode of each by its name here. Standard library only, Python 3.9 or newer.
"""

import contextlib
import json
import os
import socket
import sys
import tempfile


def main():
    kept = {}
    listener = kept["listener"] = socket.create_server(("127.0.0.1", 0), backlog=7)
    kept["waits_to_be_accepted"] = socket.create_connection(listener.getsockname())

    server = socket.create_server(("127.0.0.1", 0))
    sender = kept["sender"] = socket.create_connection(server.getsockname())
    kept["reader"] = server.accept()[0]
    sender.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sender.send(bytes(65536))
    quiet = kept["quiet"] = socket.create_connection(server.getsockname())
    accepted = kept["accepted"] = server.accept()[0]
    quiet.send(b"ping")
    accepted.recv(4)
    server.close()

    with contextlib.suppress(OSError):
        kept["listener_v6"] = socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=5)

    bound = kept["datagrams"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    peer = kept["datagram_peer"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.connect(bound.getsockname())
    peer.send(b"unread")

    kept["unix_sender"], kept["unix_reader"] = socket.socketpair()
    kept["unix_sender"].send(bytes(1000))
    folder = tempfile.mkdtemp(prefix="queues-")
    path = os.path.join(folder, "listens")
    waiting = kept["unix_listener"] = socket.socket(socket.AF_UNIX)
    waiting.bind(path)
    waiting.listen(3)
    client = kept["unix_client"] = socket.socket(socket.AF_UNIX)
    client.connect(path)
    os.unlink(path)
    os.rmdir(folder)

    inodes = {name: os.fstat(it.fileno()).st_ino for name, it in kept.items()}
    print(json.dumps({"pid": os.getpid(), "open": {name: it.fileno() for name, it in kept.items()}, "inodes": inodes}),
          flush=True)
    sys.stdin.read()


main()
