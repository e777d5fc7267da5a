#!/usr/bin/env python3
"""What a recording grows in an hour at 5 s.

    python3 benches/size.py [--release-binary target/release/unclosed]

An hour at 5 s is 720 ticks, and 720 ticks are what a segment seals. They are taken 50 ms apart here, a hundred times
faster, so what the target does is made a hundred times faster too, and the bytes are those of 720 ticks whatever the
time between them: one hour. What depends on the time itself (the widths of the columns of times) hardly differs.

An hour is the mean of the two that follow the first segment: the schema and the first sight of what is open, which come
once, are the start. Sizes are whole pages of 4 kB that are in use. The three targets are watched side by side. Prints a Markdown table.
"""

import argparse
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import machine

# Of a segment; `SEAL_TICKS` of the writer.
TICKS = 720
TICK_SECONDS = 0.05
# An hour passes in this many seconds here.
HOUR = TICKS * TICK_SECONDS


def idle():
    """Nothing but what a process has."""
    time.sleep(600)


def pool():
    """60 connections, of which one is replaced and ten say something every minute."""
    listening = machine.listener()
    held = [(client, listening.accept()[0]) for _ in range(60) for client in machine.connect(listening, 1)]
    for minute in range(10_000):
        for end in held.pop(0):
            end.close()
        held += [(client, listening.accept()[0]) for client in machine.connect(listening, 1)]
        for client, server in held[minute % 50:][:10]:
            client.send(b"SELECT 1")
            server.recv(8)
        time.sleep(HOUR / 60)


def busy():
    """Opens 50 and closes 50 a second, each a few seconds old: 250 come and go between two ticks."""
    listening = machine.listener()
    held = []
    while True:
        held += [(client, listening.accept()[0]) for _ in range(250) for client in machine.connect(listening, 1)]
        for pair in held[:-250]:
            for end in pair:
                # Without this the ports would wait in TIME_WAIT and run out.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                end.close()
        del held[:-250]
        time.sleep(TICK_SECONDS)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--release-binary", default="target/release/unclosed")
    typed = arguments.parse_args()
    print("| target | start | after an hour | one more, unsealed | one more, sealed | bytes a tick | of them samples |")
    print("|---|---|---|---|---|---|---|")
    lives = {"idle": idle, "60 connections, few changes": pool, "50 opened and closed a second": busy}
    holders = {name: machine.Holder(live) for name, live in lives.items()}
    try:
        with ThreadPoolExecutor() as side_by_side:
            measured = [side_by_side.submit(row, typed.release_binary, name, holder.pid)
                        for name, holder in holders.items()]
            for line in measured:
                print(line.result())
    finally:
        for holder in holders.values():
            holder.stop()


def row(unclosed, name, pid):
    """One line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/bench.unclosed"
        command = [unclosed, "watch", "-p", str(pid), "-o", "csv", "--every", f"{TICK_SECONDS * 1000:.0f}ms",
                   "--output", file]
        watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            watch.stdout.readline()
            start = used(file)[0]
            skip(watch, TICKS)
            first, _ = used(file)
            skip(watch, TICKS - 20)
            unsealed, _ = used(file)
            skip(watch, TICKS + 30)
            third, samples = used(file)
        finally:
            watch.send_signal(signal.SIGINT)
            watch.stdout.close()
            watch.wait()
    hour = (third - first) / 2
    figures = (start, first, unsealed - first, hour)
    return f"| {name} | " + " | ".join(f"{size / 1000:,.1f} kB" for size in figures) + \
        f" | {hour / TICKS:.1f} | {samples / TICKS:.1f} |"


def skip(watch, ticks):
    for _ in range(ticks):
        watch.stdout.readline()


def used(file):
    """Bytes of the recording that are in use, and those of its newest segment."""
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as recording:
        number = lambda pragma: recording.execute(f"PRAGMA {pragma}").fetchone()[0]
        pages = number("page_count") - number("freelist_count")
        segment = recording.execute("SELECT length(columns) FROM segment ORDER BY first DESC LIMIT 1").fetchone()
        return pages * number("page_size"), segment[0] if segment else 0


if __name__ == "__main__":
    main()
