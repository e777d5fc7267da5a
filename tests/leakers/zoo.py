#!/usr/bin/env python3
"""Opens a zoo of descriptors, says what it opened, and waits until its standard input is closed.

Prints one line of JSON and then the line `ready`:

    {"pid": 3136, "child": 3137, "folder": "/tmp/zoo-x", "open": {"tcp4_listen": 5, ...}, "skipped": {"raw": "why"}}

`open` has the number of each descriptor by its name here, `child` is a process that holds the other ends of the
`*_to_child` connections and of `pipe_from_child`. What this machine or this user can't open stands in `skipped` and is told on stderr.
A SYN_SENT gives up after two minutes; all else stays as it is until the end. Standard library only, Python 3.9 or newer.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import platform
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

LIBC = ctypes.CDLL(None, use_errno=True)
ON_ARM = platform.machine() == "aarch64"


class Zoo:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="zoo-")
        self.open = {}
        self.skipped = {}
        # What Python would close once nothing refers to it.
        self.kept = []

    def keep(self, name, thing):
        """Keeps a socket, file or descriptor under a name; gives it back."""
        self.kept.append(thing)
        self.open[name] = thing if isinstance(thing, int) else thing.fileno()
        return thing

    def path(self, name):
        return os.path.join(self.folder, name)

    @contextlib.contextmanager
    def attempt(self, what):
        """Something that not every machine and user may open."""
        try:
            yield
        except (OSError, AttributeError, ValueError) as error:
            self.skipped[what] = str(error)
            print(f"zoo: {what} skipped: {error}", file=sys.stderr)


def tcp(zoo, family, host, prefix):
    def listener(name, backlog=8):
        return zoo.keep(name, socket.create_server((host, 0), family=family, backlog=backlog))

    def pair(client_name, server_name):
        client = zoo.keep(client_name, socket.create_connection(listening.getsockname()[:2]))
        return client, zoo.keep(server_name, listening.accept()[0])

    listening = listener(f"{prefix}_listen")
    pair(f"{prefix}_client", f"{prefix}_accepted")

    half_closed, _ = pair(f"{prefix}_fin_wait2", f"{prefix}_close_wait")
    half_closed.shutdown(socket.SHUT_WR)

    lost = socket.create_connection(listening.getsockname()[:2])
    zoo.keep(f"{prefix}_close_wait_peer_gone", listening.accept()[0])
    lost.close()

    # One connection fills a backlog of 0, and the kernel then drops every SYN.
    full = listener(f"{prefix}_full", backlog=0)
    zoo.keep(f"{prefix}_queued", socket.create_connection(full.getsockname()[:2]))
    waiting = zoo.keep(f"{prefix}_syn_sent", socket.socket(family, socket.SOCK_STREAM))
    waiting.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        waiting.connect(full.getsockname())

    reset, resetting = pair(f"{prefix}_reset", f"{prefix}_reset_peer")
    resetting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    del zoo.open[f"{prefix}_reset_peer"]
    resetting.close()
    with contextlib.suppress(OSError):
        reset.recv(1)

    bound = zoo.keep(f"{prefix}_bound", socket.socket(family, socket.SOCK_STREAM))
    bound.bind((host, 0))
    zoo.keep(f"{prefix}_fresh", socket.socket(family, socket.SOCK_STREAM))


def tcp_to_child(zoo):
    """Connections whose other ends are in another process."""
    connect = (
        "import socket, sys\n"
        "ends = [socket.create_connection((host, int(port))) for host, port in zip(sys.argv[1::2], sys.argv[2::2])]\n"
        "ends[0].recv(1)\n"
    )
    listening = [("tcp4_to_child", socket.create_server(("127.0.0.1", 0)))]
    with zoo.attempt("tcp6_to_child"):
        listening.append(("tcp6_to_child", socket.create_server(("::1", 0), family=socket.AF_INET6)))
    addresses = [str(part) for _, server in listening for part in server.getsockname()[:2]]
    child = subprocess.Popen([sys.executable, "-c", connect, *addresses], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    zoo.keep("pipe_from_child", child.stdout)
    for name, server in listening:
        # Without a loopback the child never comes.
        server.settimeout(10)
        zoo.keep(name, server.accept()[0])
        server.close()
    return child


def tcp_mapped(zoo):
    """IPv4 through IPv6 sockets."""
    dual = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    zoo.keep("mapped_listen", dual)
    port = dual.getsockname()[1]
    zoo.keep("mapped_ipv4_client", socket.create_connection(("127.0.0.1", port)))
    zoo.keep("mapped_accepted", dual.accept()[0])
    client = zoo.keep("mapped_client", socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
    client.connect(("::ffff:127.0.0.1", port))
    zoo.keep("mapped_accepted_too", dual.accept()[0])
    any4 = zoo.keep("tcp4_listen_any", socket.create_server(("0.0.0.0", 0)))
    # A second descriptor of the same socket.
    zoo.keep("tcp4_listen_any_dup", os.dup(any4.fileno()))


def udp(zoo, family, host, prefix):
    zoo.keep(f"{prefix}_fresh", socket.socket(family, socket.SOCK_DGRAM))
    bound = zoo.keep(f"{prefix}_bound", socket.socket(family, socket.SOCK_DGRAM))
    bound.bind((host, 0))
    wild = zoo.keep(f"{prefix}_bound_any", socket.socket(family, socket.SOCK_DGRAM))
    wild.bind(("", 0))
    connected = zoo.keep(f"{prefix}_connected", socket.socket(family, socket.SOCK_DGRAM))
    connected.connect(bound.getsockname())
    if family == socket.AF_INET6:
        plain = zoo.keep("udp4_bound_for_mapped", socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        plain.bind(("127.0.0.1", 0))
        mapped = zoo.keep("udp_mapped_connected", socket.socket(family, socket.SOCK_DGRAM))
        mapped.connect(("::ffff:127.0.0.1", plain.getsockname()[1]))


def unix(zoo):
    stream, datagram, seqpacket = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET

    def fresh(name, kind, address=None):
        made = zoo.keep(name, socket.socket(socket.AF_UNIX, kind))
        if address is not None:
            made.bind(address)
        return made

    def served(prefix, kind, address):
        listening = fresh(f"{prefix}_listen", kind, address)
        listening.listen(8)
        fresh(f"{prefix}_client", kind).connect(address)
        zoo.keep(f"{prefix}_accepted", listening.accept()[0])
        return listening

    for prefix, kind in [("unix_stream", stream), ("unix_dgram", datagram), ("unix_seqpacket", seqpacket)]:
        fresh(f"{prefix}_fresh", kind)
        left, right = socket.socketpair(socket.AF_UNIX, kind)
        zoo.keep(f"{prefix}_pair_left", left)
        zoo.keep(f"{prefix}_pair_right", right)

    served("unix_stream_path", stream, zoo.path("stream"))
    served("unix_seqpacket_path", seqpacket, zoo.path("seqpacket"))
    abstract = f"\0zoo-{os.getpid()}"
    served("unix_stream_abstract", stream, abstract)

    # Both ends named, as PostgreSQL's and others' are not.
    listening = fresh("unix_stream_named_listen", stream, zoo.path("named"))
    listening.listen(8)
    fresh("unix_stream_named_client", stream, zoo.path("named-client")).connect(zoo.path("named"))
    zoo.keep("unix_stream_named_accepted", listening.accept()[0])

    # Connected, and not accepted yet.
    fresh("unix_stream_queued", stream).connect(zoo.path("named"))

    gone, goes = socket.socketpair(socket.AF_UNIX, stream)
    zoo.keep("unix_stream_peer_gone", gone)
    goes.close()

    fresh("unix_stream_bound", stream, zoo.path("bound only"))
    fresh("unix_stream_unlinked", stream, zoo.path("unlinked"))
    os.unlink(zoo.path("unlinked"))
    fresh("unix_dgram_bound", datagram, zoo.path("datagram"))
    fresh("unix_dgram_connected", datagram).connect(zoo.path("datagram"))
    fresh("unix_dgram_abstract", datagram, abstract)


def sockets_of_other_families(zoo):
    def attempt(name, family, kind, protocol=0):
        with zoo.attempt(name):
            return zoo.keep(name, socket.socket(family, kind, protocol))

    attempt("netlink", socket.AF_NETLINK, socket.SOCK_RAW, 0)
    attempt("raw4", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    attempt("raw6", socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    attempt("packet", socket.AF_PACKET, socket.SOCK_RAW, 0)
    attempt("packet_dgram", socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    attempt("ping", socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    attempt("udplite", socket.AF_INET, socket.SOCK_DGRAM, 136)
    attempt("vsock", 40, socket.SOCK_STREAM)
    attempt("alg", 38, socket.SOCK_SEQPACKET)
    multipath = attempt("mptcp_listen", socket.AF_INET, socket.SOCK_STREAM, 262)
    if multipath:
        multipath.bind(("127.0.0.1", 0))
        multipath.listen(8)


def files(zoo):
    written = zoo.path("file with a space")
    zoo.keep("file_write", os.open(written, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    zoo.keep("file_read", os.open(written, os.O_RDONLY))
    zoo.keep("file_both", os.open(written, os.O_RDWR))
    zoo.keep("file_path_only", os.open(written, os.O_PATH))
    moved = zoo.keep("file_moved", os.open(zoo.path("moved"), os.O_RDWR | os.O_CREAT, 0o600))
    os.write(moved, b"seven b")
    zoo.keep("file_moved_dup", os.dup(moved))
    zoo.keep("file_renamed", os.open(zoo.path("before"), os.O_RDWR | os.O_CREAT, 0o600))
    os.rename(zoo.path("before"), zoo.path("after"))
    deleted = zoo.path("deleted")
    zoo.keep("file_deleted", os.open(deleted, os.O_RDWR | os.O_CREAT, 0o600))
    os.unlink(deleted)
    newline = zoo.path("new\nline")
    zoo.keep("file_newline", os.open(newline, os.O_RDWR | os.O_CREAT, 0o600))
    zoo.keep("directory", os.open(zoo.folder, os.O_RDONLY | os.O_DIRECTORY))
    zoo.keep("proc_file", os.open("/proc/self/status", os.O_RDONLY))
    zoo.keep("dev_null", os.open("/dev/null", os.O_RDWR))
    with zoo.attempt("block_device"):
        disks = [entry for entry in sorted(os.listdir("/dev")) if entry.startswith(("loop0", "vda", "sda", "nvme0n1"))]
        zoo.keep("block_device", os.open(os.path.join("/dev", disks[0] if disks else "no disk"), os.O_RDONLY))
    with zoo.attempt("pty"):
        master, slave = pty.openpty()
        zoo.keep("pty_master", master)
        zoo.keep("pty_slave", slave)
    reading, writing = os.pipe()
    zoo.keep("pipe_read", reading)
    zoo.keep("pipe_write", writing)
    os.mkfifo(zoo.path("fifo"))
    zoo.keep("fifo", os.open(zoo.path("fifo"), os.O_RDWR))
    os.mkfifo(zoo.path("fifo with ends"))
    zoo.keep("fifo_read", os.open(zoo.path("fifo with ends"), os.O_RDONLY | os.O_NONBLOCK))
    zoo.keep("fifo_write", os.open(zoo.path("fifo with ends"), os.O_WRONLY))


def anonymous_inodes(zoo, child):
    """What is open without a name."""

    def call(name, function, *arguments):
        with zoo.attempt(name):
            descriptor = function(*arguments)
            if descriptor < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            return zoo.keep(name, descriptor)

    def number(x86_64, arm):
        """A system call's number, on the two machines that we build for."""
        return ctypes.c_long(arm if ON_ARM else x86_64)

    call("eventfd", LIBC.eventfd, 0, os.O_CLOEXEC)
    counting = call("eventfd_17", LIBC.eventfd, 17, os.O_CLOEXEC)
    if counting is not None:
        zoo.keep("eventfd_17_dup", os.dup(counting))
        # Passed to ourselves: a descriptor that came over a socket is made as one that another process passed.
        with zoo.attempt("eventfd_17_passed"):
            sending, receiving = socket.socketpair()
            with sending, receiving:
                socket.send_fds(sending, [b"x"], [counting])
                zoo.keep("eventfd_17_passed", socket.recv_fds(receiving, 1, 1)[1][0])
    zoo.keep("epoll", select.epoll())
    waiting = zoo.keep("epoll_of_3", select.epoll())
    for name in ("pipe_read", "fifo", "unix_stream_pair_left"):
        waiting.register(zoo.open[name], select.EPOLLIN)
    call("inotify", LIBC.inotify_init1, os.O_CLOEXEC)
    watching = call("inotify_of_5", LIBC.inotify_init1, os.O_CLOEXEC)
    for folder in (f"watched {place}" for place in range(5)):
        os.mkdir(zoo.path(folder))
        LIBC.inotify_add_watch(watching, zoo.path(folder).encode(), 0x100)
    marking = call("fanotify", LIBC.fanotify_init, 0, 0)
    if marking is not None:
        # FAN_MARK_ADD of the folder itself, for FAN_OPEN.
        LIBC.fanotify_mark(marking, 1, ctypes.c_ulonglong(0x20), -100, zoo.folder.encode())
    call("timerfd", LIBC.timerfd_create, time.CLOCK_MONOTONIC, os.O_CLOEXEC)
    ringing = call("timerfd_ringing", LIBC.timerfd_create, time.CLOCK_BOOTTIME, os.O_CLOEXEC)
    if ringing is not None:
        # Every 1.5 s, first in an hour.
        LIBC.timerfd_settime(ringing, 0, struct.pack("qqqq", 1, 500_000_000, 3600, 0), None)
    signals = ctypes.create_string_buffer(128)
    LIBC.sigemptyset(signals)
    for one in (signal.SIGHUP, signal.SIGUSR2, signal.SIGRTMIN):
        LIBC.sigaddset(signals, one)
    call("signalfd", LIBC.signalfd, -1, signals, os.O_CLOEXEC)
    with zoo.attempt("memfd"):
        zoo.keep("memfd", os.memfd_create("zoo-memory"))
    with zoo.attempt("memfd_sealed"):
        sealed = zoo.keep("memfd_sealed", os.memfd_create("zoo-sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        # F_ADD_SEALS: no shrinking, no growing, no writing.
        fcntl.fcntl(sealed, 1033, 2 | 4 | 8)
    with zoo.attempt("pidfd"):
        zoo.keep("pidfd", os.pidfd_open(child.pid))
    call("io_uring", LIBC.syscall, number(425, 425), 1, ctypes.create_string_buffer(120))
    call("userfaultfd", LIBC.syscall, number(323, 282), os.O_CLOEXEC)
    array_of_one = struct.pack("IIIII", 2, 4, 8, 1, 0) + bytes(100)
    call("bpf_map", LIBC.syscall, number(321, 280), 0, array_of_one, len(array_of_one))
    cpu_clock = struct.pack("IIQ", 1, 112, 0) + bytes(96)
    call("perf_event", LIBC.syscall, number(298, 241), cpu_clock, 0, -1, -1, 0)


def main():
    zoo = Zoo()
    child = None
    try:
        child = tcp_to_child(zoo)
        tcp(zoo, socket.AF_INET, "127.0.0.1", "tcp4")
        udp(zoo, socket.AF_INET, "127.0.0.1", "udp4")
        with zoo.attempt("ipv6"):
            tcp(zoo, socket.AF_INET6, "::1", "tcp6")
            tcp_mapped(zoo)
            udp(zoo, socket.AF_INET6, "::1", "udp6")
        unix(zoo)
        sockets_of_other_families(zoo)
        files(zoo)
        anonymous_inodes(zoo, child)
        told = {"pid": os.getpid(), "child": child.pid, "folder": zoo.folder, "open": zoo.open, "skipped": zoo.skipped}
        print(json.dumps(told), flush=True)
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        if child:
            child.kill()
            child.wait()
        shutil.rmtree(zoo.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
