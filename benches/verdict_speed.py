#!/usr/bin/env python3
"""How long the verdict takes, reading included: one long log, many short ones, and a CSV of lifetimes.

    target/venv/bin/python benches/verdict_speed.py [--release-binary target/release/unclosed] [--files 10000]

`unclosed show -o jsonl` against what a script of one's own would do in the same run: Python's csv module that only reads the
same files, and, where they are installed, NumPy's reader with the Mann-Kendall test of pymannkendall, which says whether
there is a trend and nothing else. That test grows with the square of the points: where they are many it is left out.
The data is made here: load with noise, half of it with a leak. Wall time, the median of several rounds in which the peers
take turns; of the many files the slow peers judge a part and are scaled up. The CPU time of unclosed stands beside it: on
a machine that others use it is what to trust. Prints a Markdown table.
"""

import argparse
import csv
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

POINTS_OF_ONE = 1_000_000
POINTS_OF_MANY = 720
LIFETIMES = 500_000
ROUNDS = 5
# Of the many files, those that a slow peer judges.
SLOW_FILES = 200


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--release-binary", default="target/release/unclosed")
    arguments.add_argument("--files", type=int, default=10_000)
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    typed = arguments.parse_args()
    judge_by_trend = mann_kendall()
    print("| data | `unclosed show -o jsonl` | CPU | peak memory | Python's csv, reading alone | NumPy and pymannkendall | csv : unclosed |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        one = [log(f"{folder}/one.csv", POINTS_OF_ONE, 0)]
        row(typed, f"1 log of {POINTS_OF_ONE:,} points", one, None)
        many = [log(f"{folder}/{number}.csv", POINTS_OF_MANY, number) for number in range(typed.files)]
        row(typed, f"{typed.files:,} logs of {POINTS_OF_MANY} points", many, judge_by_trend)
        row(typed, f"1 CSV of {LIFETIMES:,} lifetimes", [lifetimes(f"{folder}/events.csv", LIFETIMES)], None)


def row(typed, name, files, judge_by_trend):
    """One line of the table."""
    slow = files[:SLOW_FILES]
    peers = {
        "unclosed": (files, lambda paths: show(typed.release_binary, paths)),
        "csv": (slow, read_by_csv),
        "trend": (slow, judge_by_trend),
    }
    seconds = {peer: [] for peer in peers}
    cpu = []
    for _ in range(typed.rounds):
        for peer, (paths, work) in peers.items():
            if work:
                begun, spent = time.perf_counter(), children_seconds()
                work(paths)
                seconds[peer].append((time.perf_counter() - begun) * len(files) / len(paths))
                cpu += [children_seconds() - spent] if peer == "unclosed" else []
    took = {peer: statistics.median(each) for peer, each in seconds.items() if each}
    trend = f"{took['trend']:.2f} s" if "trend" in took else "-"
    print(f"| {name} | {took['unclosed']:.3f} s | {statistics.median(cpu):.3f} s | {peak_memory(typed.release_binary, files):.0f} MB | {took['csv']:.2f} s "
          f"| {trend} | {took['csv'] / took['unclosed']:.1f} |", flush=True)


def children_seconds():
    """CPU time of the children that have ended."""
    spent = os.times()
    return spent.children_user + spent.children_system


def show(unclosed, paths):
    """Judges all of the files by one process. Their paths stay below the limit of a command line."""
    folder = os.path.dirname(paths[0])
    names = [os.path.basename(path) for path in paths]
    said = subprocess.run([os.path.abspath(unclosed), "show", "-o", "jsonl", *names], cwd=folder,
                          stdout=subprocess.PIPE, check=True).stdout
    assert said.count(b"\n") == len(paths)


def peak_memory(unclosed, paths):
    """Megabytes that judging them takes. A child begins with the memory of its parent, so a bare Python starts it."""
    parent = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); " \
             "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    names = [os.path.basename(path) for path in paths]
    command = [sys.executable, "-I", "-S", "-c", parent, os.path.abspath(unclosed), "show", "-o", "jsonl", *names]
    return int(subprocess.check_output(command, cwd=os.path.dirname(paths[0]))) / 1000


def read_by_csv(paths):
    """Reads every field, and makes numbers of the first two."""
    for path in paths:
        with open(path, newline="") as lines:
            rows = csv.reader(lines)
            head = next(rows)
            columns = (1, 5) if head[0] == "conn_id" else (0, 1)
            for fields in rows:
                float(fields[columns[0]]), float(fields[columns[1]])


def mann_kendall():
    """Reads by NumPy and tests for a trend; `None` where that is not installed."""
    try:
        import numpy
        import pymannkendall
    except ImportError:
        return None
    return lambda paths: [pymannkendall.original_test(numpy.loadtxt(path, delimiter=",")[:, 1]) for path in paths]


def log(path, points, seed):
    """A log of load with noise; every other one leaks."""
    draw = random.Random(seed)
    leak = seed % 2 * 30 / points
    with open(path, "w") as out:
        out.writelines(f"{1_487_279_164 + 5 * tick},{int(40 + 12 * draw.random() + leak * tick)}\n"
                       for tick in range(points))
    return path


def lifetimes(path, count):
    """Connections to 40 endpoints, one of which leaks one in a hundred."""
    draw = random.Random(7)
    with open(path, "w") as out:
        out.write("conn_id,opened_ts,closed_ts,remote,bytes_sent,last_activity_ts\n")
        for number in range(count):
            opened = 1_487_279_164 + number / 10
            last = opened + draw.expovariate(1 / 20)
            leaks = number % 4_000 == 0
            closed = "" if leaks else f"{last + draw.random():.1f}"
            out.write(f"{number},{opened:.1f},{closed},10.0.0.{number % 40}:5432,{draw.randrange(100_000)},{last:.1f}\n")
    return path


if __name__ == "__main__":
    main()
