#!/usr/bin/env python3
"""What it costs to look at one process: `unclosed list` and one tick of a watch against `lsof` and `ss`.

    python3 benches/list.py [--release-binary target/release/unclosed] [--connections 100,1000,10000]

Each is the CPU time, user and system, of the processes that ran, the median of several rounds in which the peers take
turns. The target holds its connections on a machine that holds 50,000 sockets more. Prints a Markdown table.
"""

import argparse
import os
import signal
import statistics
import subprocess
import tempfile

import machine

BYSTANDERS = 50_000
ROUNDS = 7
# The verdict is looked at after each of the first 200 ticks, then only as time has grown by 2%.
EAGER_TICKS = 200
TICKS_A_ROUND = 20


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--release-binary", default="target/release/unclosed")
    arguments.add_argument("--connections", default="100,1000,10000")
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    typed = arguments.parse_args()
    crowd = machine.bystanders(BYSTANDERS)
    try:
        print("| connections | `list` | tick | tick, first 200 | `lsof -i -a -p PID -n -P` | `ss -tnp` "
              "| lsof : list | lsof : tick | ss : tick |")
        print("|---|---|---|---|---|---|---|---|---|")
        for connections in map(int, typed.connections.split(",")):
            print(row(typed.release_binary, connections, typed.rounds), flush=True)
    finally:
        for holder in crowd:
            holder.stop()


def row(unclosed, connections, rounds):
    """One line of the table."""
    client, server = machine.client_and_server(connections)
    try:
        with Watch(unclosed, client.pid) as watch:
            watch.ticks(10)
            eager = watch.ticks(EAGER_TICKS - 20)
            watch.ticks(20)
            listed, ticks, lsof, ss = [], [], [], []
            for _ in range(rounds):
                ticks.append(watch.ticks(TICKS_A_ROUND))
                watch.pause()
                pid = str(client.pid)
                listed.append(cpu_of([unclosed, "list", "-p", pid], connections))
                lsof.append(cpu_of(["lsof", "-i", "-a", "-p", pid, "-n", "-P"], connections))
                ss.append(cpu_of(["ss", "-tnp"], connections))
                watch.resume()
    finally:
        client.stop()
        server.stop()
    listed, tick, lsof, ss = map(statistics.median, (listed, ticks, lsof, ss))
    times = " | ".join(f"{1000 * seconds:.1f} ms" for seconds in (listed, tick, eager, lsof, ss))
    return f"| {connections:,} | {times} | {lsof / listed:.1f} | {lsof / tick:.1f} | {ss / tick:.1f} |"


def cpu_of(command, lines_min):
    """CPU seconds of a command that prints at least so many lines."""
    with tempfile.TemporaryFile() as out:
        started = subprocess.Popen(command, stdout=out)
        _, status, used = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        lines = sum(1 for _ in out)
    # lsof says 1 where it found nothing for one of its selections, and that is no failure.
    assert started.returncode == 0 and lines >= lines_min, (command, started.returncode, lines)
    return used.ru_utime + used.ru_stime


class Watch:
    """A watch that records, and prints a line a tick."""

    def __init__(self, unclosed, pid):
        self._folder = tempfile.TemporaryDirectory()
        command = [unclosed, "watch", "-p", str(pid), "-o", "csv", "--every", "100ms", "--for", "10m",
                   "--output", f"{self._folder.name}/bench.unclosed"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def __enter__(self):
        self._process.stdout.readline()
        return self

    def __exit__(self, *_):
        self.resume()
        self._process.send_signal(signal.SIGINT)
        self._process.stdout.close()
        self._process.wait()
        self._folder.cleanup()

    def ticks(self, count):
        """CPU seconds of one tick, the mean of the next `count`. A line comes at the end of its tick."""
        self._process.stdout.readline()
        begun = self._cpu()
        for _ in range(count):
            self._process.stdout.readline()
        return (self._cpu() - begun) / count

    def _cpu(self):
        threads = f"/proc/{self._process.pid}/task"
        return sum(int(open(f"{threads}/{thread}/schedstat").read().split()[0]) for thread in os.listdir(threads)) / 1e9

    def pause(self):
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    main()
