#!/usr/bin/env python3
"""What it costs to look at one process: `unclosed list` and one tick of a watch against `lsof` and `ss`.

    python3 benches/list.py [--release-binary target/release/unclosed] [--connections 100,1000,10000]

Each is the CPU time, user and system, of the processes that ran, the median of several rounds in which the peers take
turns. The target is nobody's, and holds its connections on a machine that holds 50,000 sockets more. It is watched as root,
which takes BPF, and as nobody, which walks `/proc/PID/fd`. Run it as root. Prints a Markdown table.
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
        print("| connections | `list` | tick, root | first 200 | tick, nobody | `lsof -i -a -p PID -n -P` | `ss -tnp` "
              "| lsof : tick, root | ss : tick, root | lsof : tick, nobody | peak memory, root |")
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for connections in map(int, typed.connections.split(",")):
            print(row(typed.release_binary, connections, typed.rounds), flush=True)
    finally:
        for holder in crowd:
            holder.stop()


def row(unclosed, connections, rounds):
    """One line of the table."""
    client, server = machine.client_and_server(connections, machine.NOBODY)
    pid = str(client.pid)
    nobody = ["setpriv", f"--reuid={machine.NOBODY}", f"--regid={machine.NOBODY}", "--clear-groups"]
    commands = {
        "list": [unclosed, "list", "-p", pid],
        "lsof": ["lsof", "-i", "-a", "-p", pid, "-n", "-P"],
        "ss": ["ss", "-tnp"],
    }
    try:
        with Watch([unclosed], pid, "bpf") as root, Watch([*nobody, unclosed], pid, "auto") as stranger:
            stranger.pause()
            root.ticks(10)
            eager = root.ticks(EAGER_TICKS - 20)
            root.ticks(20)
            root.pause()
            costs = {name: [] for name in ["root", "nobody", *commands]}
            for _ in range(rounds):
                for name, watch in ("root", root), ("nobody", stranger):
                    watch.resume()
                    costs[name].append(watch.ticks(TICKS_A_ROUND))
                    watch.pause()
                for name, command in commands.items():
                    costs[name].append(machine.cpu_of(command, connections))
            memory = root.peak_memory_mb()
    finally:
        client.stop()
        server.stop()
    cost = {name: statistics.median(each) for name, each in costs.items()}
    order = [cost["list"], cost["root"], eager, cost["nobody"], cost["lsof"], cost["ss"]]
    times = " | ".join(f"{1000 * seconds:.1f} ms" for seconds in order)
    ratios = [cost["lsof"] / cost["root"], cost["ss"] / cost["root"], cost["lsof"] / cost["nobody"]]
    return f"| {connections:,} | {times} | " + " | ".join(f"{ratio:.1f}" for ratio in ratios) + f" | {memory:.1f} MB |"


class Watch:
    """A watch that records, and prints a line a tick."""

    def __init__(self, unclosed, pid, source):
        self._folder = tempfile.TemporaryDirectory()
        os.chmod(self._folder.name, 0o777)
        command = [*unclosed, "watch", "-p", pid, "-o", "csv", "--every", "100ms", "--for", "20m",
                   "--source", source, "--output", f"{self._folder.name}/bench.unclosed"]
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
        return machine.cpu_seconds(self._process.pid)

    def peak_memory_mb(self):
        status = open(f"/proc/{self._process.pid}/status").read().splitlines()
        return next(int(line.split()[1]) / 1000 for line in status if line.startswith("VmHWM"))

    def pause(self):
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    main()
