#!/usr/bin/env python3
"""How early the verdict comes, and how often too early: each series looked at 19 times as its data comes in.

    target/venv/bin/python benches/online.py [--release-binary target/release/unclosed] [--no-peers] [CORPUS...]

Each series is cut at 10%, 15% ... 100% of its time, and each piece judged by itself. Without a corpus, those of
tests/fixtures/corpus. Needs numpy, scipy and pymannkendall, which `./test` installs. Prints a Markdown table.
"""

import argparse
import bisect
import os
import statistics
import tempfile

import labelled
import peers

LOOKS = [share / 100 for share in range(10, 101, 5)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpora", nargs="*")
    arguments.add_argument("--release-binary", default="target/release/unclosed")
    arguments.add_argument("--no-peers", action="store_true", help="only the verdict of unclosed")
    typed = arguments.parse_args()
    print("| corpus | method | non-leaks ever called a leak | leaks found | median delay in leaked units | as a share of all leaked "
          "| alarms before the onset |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for corpus in typed.corpora or labelled.unpacked(scratch):
            if labelled.is_series(corpus):
                table(corpus, typed)


def table(corpus, typed):
    rows = [(label, *labelled.points(path)) for label, path in labelled.labels(corpus) if not label["class"].startswith("u_")]
    name = os.path.basename(corpus.rstrip("/"))
    print(f"| {name} | unclosed | {figures(rows, by_unclosed(rows, typed.release_binary))} |", flush=True)
    if not typed.no_peers:
        for method, rule in peers.ON_SERIES.items():
            alarms = [[rule(times[:end], values[:end]) for end in ends(times)] for _, times, values in rows]
            print(f"| {name} | {method} | {figures(rows, alarms)} |", flush=True)


def ends(times):
    """How many samples each look sees."""
    return [bisect.bisect_right(times, times[0] + share * (times[-1] - times[0])) for share in LOOKS]


def by_unclosed(rows, binary):
    """For each series, at each look, whether it is called a leak."""
    alarms = []
    for label, times, values in rows:
        with tempfile.TemporaryDirectory() as scratch:
            paths = []
            lines = [f"{at:.3f},{value:.17g}\n" for at, value in zip(times, values)]
            for look, end in enumerate(ends(times)):
                paths.append(os.path.join(scratch, f"{look}.csv"))
                with open(paths[-1], "w") as file:
                    file.writelines(lines[:end])
            reports = labelled.judged(binary, paths)
            alarms.append([reports[path]["verdict"]["kind"] == "leak" for path in paths])
    return alarms


def figures(rows, alarms):
    """The cells of one method. A unit of a leak of bytes is a byte, so its delay counts as a share only."""
    healthy = called = leaks = found = early = 0
    units, shares = [], []
    for (label, times, _), alarm in zip(rows, alarms):
        if label["leak"] != "1":
            healthy += 1
            called += any(alarm)
            continue
        leaks += 1
        onset, rate, number = float(label["onset_ts"]), float(label["rate_per_hour"]) / 3600, float(label["n_leaked"])
        moments = [times[0] + share * (times[-1] - times[0]) for share, on in zip(LOOKS, alarm) if on]
        early += any(at < onset for at in moments)
        after = next((at for at in moments if at >= onset), None)
        found += after is not None
        if after is not None:
            delay = min(rate * (after - onset), number)
            shares.append(delay / number)
            if label["kind"] == "count":
                units.append(delay)
    middle = lambda values: f"{statistics.median(values):.2f}" if values else "-"
    share = lambda part, all: f"{part}/{all} = {part / max(1, all):.1%}"
    return f"{share(called, healthy)} | {share(found, leaks)} | {middle(units)} | {middle(shares)} | {early}"


if __name__ == "__main__":
    main()
