#!/usr/bin/env python3
"""Whether a watch grows: its memory and descriptors over 10,000 ticks of a target that opens and closes all the time.

    python3 benches/growth.py [--release-binary target/release/unclosed] [--ticks 10000]

The target holds 500 connections that carry a byte now and then, and opens and closes others, files and pipes. Ticks come
every 50 ms, so 10,000 take some nine minutes. Prints a Markdown table.
"""

import argparse
import os
import random
import signal
import subprocess
import tempfile
import threading
import time

import machine

EVERY_SECONDS = 0.05


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--release-binary", default="target/release/unclosed")
    arguments.add_argument("--ticks", type=int, default=10_000)
    typed = arguments.parse_args()
    target = machine.Holder(churn).wait()
    with tempfile.TemporaryDirectory() as folder:
        command = [typed.release_binary, "watch", "-p", str(target.pid), "-o", "csv", "--every", "50ms",
                   "--output", f"{folder}/bench.unclosed"]
        watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            measure(watch, typed.ticks, f"{folder}/bench.unclosed")
        finally:
            watch.send_signal(signal.SIGINT)
            watch.stdout.close()
            watch.wait()
            target.stop()


def measure(watch, ticks, recording):
    print("| ticks | resident | peak | descriptors | CPU a tick | recording |")
    print("|---|---|---|---|---|---|")
    used = machine.cpu_seconds(watch.pid)
    step = max(ticks // 10, 1)
    for tick in range(1, ticks + 1):
        watch.stdout.readline()
        if tick % step == 0:
            status = dict(line.split(":", 1) for line in open(f"/proc/{watch.pid}/status") if ":" in line)
            resident, peak = (int(status[key].split()[0]) / 1000 for key in ("VmRSS", "VmHWM"))
            descriptors = len(os.listdir(f"/proc/{watch.pid}/fd"))
            now = machine.cpu_seconds(watch.pid)
            size = sum(os.path.getsize(recording + end) for end in ("", "-wal") if os.path.exists(recording + end))
            print(f"| {tick:,} | {resident:.1f} MB | {peak:.1f} MB | {descriptors} | {(now - used) / step * 1000:.2f} ms "
                  f"| {size / 1e6:.1f} MB |", flush=True)
            used = now


def churn():
    """Connections that stay, and a thread that opens and closes for as long as the process runs."""
    listening = machine.listener()
    listening.settimeout(None)
    kept = machine.pairs(listening, 250)
    threading.Thread(target=come_and_go, args=(listening, kept), daemon=True).start()
    return listening, kept


def come_and_go(listening, kept):
    held = []
    while True:
        held.append(machine.pairs(listening, 1))
        held.append([open("/dev/null"), open("/proc/self/stat")])
        held.append(list(os.pipe()))
        random.choice(kept).send(b".")
        while len(held) > 60:
            for thing in held.pop(random.randrange(len(held))):
                os.close(thing) if isinstance(thing, int) else thing.close()
        time.sleep(0.01)


if __name__ == "__main__":
    main()
