"""What the benches share: a machine full of sockets, held by processes of the bench until it ends, and CPU time.

Everything here is bounded: a holder ends when its bench does, however that ends, for its input is then at its end.
"""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import tempfile

# The hard limit on the machines this was made for; a holder stays below it.
DESCRIPTORS_MAX = 20_000
# A listener's address each, so that ports never run out: a pair of addresses has 28,232 of them.
_addresses = (f"127.0.{1 + n // 250}.{1 + n % 250}" for n in range(10_000))


# Who holds what an unprivileged look is to see.
NOBODY = 65534
PR_SET_DUMPABLE = 4


class Holder:
    """A process that runs `hold()`, keeps what it returns, and does nothing more until it is stopped."""

    def __init__(self, hold, user=None):
        self._ready, told = os.pipe()
        until, self._running = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._running)
            try:
                most = min(DESCRIPTORS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
                if user is not None:
                    os.setresgid(user, user, user)
                    os.setresuid(user, user, user)
                    # A process that has changed its user is closed to that one, too, unless it says otherwise.
                    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
                _kept = hold()
                os.write(told, b"!")
                os.read(until, 1)
            finally:
                os._exit(0)
        os.close(told)
        os.close(until)

    def wait(self):
        """Waits until it holds what it is to hold."""
        if os.read(self._ready, 1) != b"!":
            raise SystemExit("a holder of sockets failed: are there descriptors and memory enough?")
        return self

    def stop(self):
        """Ends it, and waits for that."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._ready)
        os.close(self._running)


def listener():
    """A listening socket at an address of its own."""
    listening = socket.socket()
    listening.bind((next(_addresses), 0))
    listening.listen(4096)
    return listening


def connect(listening, count):
    """`count` connections to a listener whose other ends are accepted by whoever holds it."""
    kept = []
    for _ in range(count):
        client = socket.socket()
        client.connect(listening.getsockname())
        kept.append(client)
    return kept


def pairs(listening, count):
    """`count` connections with both their ends in this process."""
    kept = []
    for _ in range(count):
        kept += connect(listening, 1)
        kept.append(listening.accept()[0])
    return kept


def bystanders(sockets):
    """Processes that hold this many sockets which are no business of the target's."""
    holders = []
    while sockets > 0:
        count = min(DESCRIPTORS_MAX - 2_000, sockets)
        with listener() as listening:
            holders.append(Holder(lambda: pairs(listening, count // 2)).wait())
        sockets -= count
    return holders


def client_and_server(connections, user=None):
    """A client of `user` that holds this many connections, and the server that holds their other ends."""
    with listener() as listening:
        server = Holder(lambda: [listening.accept()[0] for _ in range(connections)])
        client = Holder(lambda: connect(listening, connections), user)
    return client.wait(), server.wait()


def cpu_of(command, lines_min):
    """CPU seconds of a command that prints at least so many lines."""
    with tempfile.TemporaryFile() as out:
        started = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        lines = sum(1 for _ in out)
    # lsof says 1 where it found nothing for one of its selections, and that is no failure.
    assert started.returncode == 0 and lines >= lines_min, (command, started.returncode, lines)
    return used.ru_utime + used.ru_stime


def cpu_seconds(pid):
    """What the threads of a process have used so far, to the nanosecond."""
    threads = f"/proc/{pid}/task"
    return sum(int(open(f"{threads}/{thread}/schedstat").read().split()[0]) for thread in os.listdir(threads)) / 1e9
