#!/usr/bin/env python3
"""What it costs to look at a whole machine: one tick of `unclosed top` against one `lsof -nP -i`.

    python3 benches/top.py [--release-binary target/release/unclosed] [--sockets 60000] [--processes 500]

CPU time, user and system, the median of several rounds in which the peers take turns, on a machine that holds this many
sockets in a few processes and as many processes as asked for that hold little. Of `top` a tick is the mean of several,
once it has seen everyone; `once` is a run of its own, with all that comes first. For root the unprivileged rows are those
of a user who may look into no other process (`setpriv`), and of one without the capability to load programs into the
kernel. Prints a Markdown table.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile

import machine

ROUNDS = 7
TICKS_A_ROUND = 10
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
NO_PROGRAMS = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin", "--inh-caps=-bpf,-perfmon,-sys_admin"]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--release-binary", default="target/release/unclosed")
    arguments.add_argument("--sockets", type=int, default=60_000)
    arguments.add_argument("--processes", type=int, default=500)
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    typed = arguments.parse_args()
    crowd = machine.bystanders(typed.sockets) + [machine.Holder(lambda: None).wait() for _ in range(typed.processes)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            # Where nobody may run it.
            os.chmod(folder, 0o755)
            binary = shutil.copy(typed.release_binary, folder)
            measure(binary, typed.sockets, typed.processes, typed.rounds)
    finally:
        for holder in crowd:
            holder.stop()


def measure(binary, sockets, processes, rounds):
    """The table of `rounds` rounds."""
    ways = {"as we are": []}
    if os.geteuid() == 0:
        ways |= {"without programs in the kernel": NO_PROGRAMS, "as nobody": NOBODY}
    tops = {way: Top(become + [binary]) for way, become in ways.items()}
    once = {way: [] for way in ways}
    ticks = {way: [] for way in ways}
    lsof = []
    try:
        for _ in range(rounds):
            lsof.append(machine.cpu_of(["lsof", "-nP", "-i"], sockets))
            for way, become in ways.items():
                ticks[way].append(tops[way].ticks(TICKS_A_ROUND))
                once[way].append(machine.cpu_of(become + [binary, "top", "-o", "csv"], processes))
    finally:
        for top in tops.values():
            top.stop()
    whole = statistics.median(lsof)
    print(f"{sockets:,} sockets, {processes} processes; `lsof -nP -i`: {1000 * whole:.0f} ms\n")
    print("| `unclosed top` | read from | tick | lsof : tick | once | lsof : once | memory |")
    print("|---|---|---|---|---|---|---|")
    for way in ways:
        tick, one = statistics.median(ticks[way]), statistics.median(once[way])
        print(f"| {way} | {tops[way].source} | {1000 * tick:.1f} ms | {whole / tick:.1f} | {1000 * one:.1f} ms "
              f"| {whole / one:.1f} | {tops[way].memory_bytes / 1e6:.1f} MB |")


class Top:
    """A `top` that prints an object a tick, stopped while others are measured."""

    def __init__(self, program):
        command = program + ["top", "-o", "jsonl", "--rows", "20", "--every", "100ms"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        # The first has to find out who everyone is.
        self._look()
        self.source = self._look()["source"]
        self._process.send_signal(signal.SIGSTOP)

    def _look(self):
        told = json.loads(self._process.stdout.readline())
        self.memory_bytes = told["cost"]["memory_bytes"]
        return told

    def ticks(self, count):
        """CPU seconds of one tick, the mean of the next `count`. A line comes at the end of its tick."""
        self._process.send_signal(signal.SIGCONT)
        # One may have been said before it was stopped.
        self._look()
        self._look()
        begun = self._cpu()
        for _ in range(count):
            self._look()
        used = self._cpu() - begun
        self._process.send_signal(signal.SIGSTOP)
        return used / count

    def _cpu(self):
        return machine.cpu_seconds(self._process.pid)

    def stop(self):
        self._process.kill()
        self._process.stdout.close()
        self._process.wait()


if __name__ == "__main__":
    main()
