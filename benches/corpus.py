#!/usr/bin/env python3
"""Writes labelled corpora of simulated services, to see how right the verdict is on data that it was not tuned on.

    python3 benches/corpus.py series --seed 7 --count 10 DIR       ten series of each class, and labels.csv
    python3 benches/corpus.py lifetimes --seed 7 --cases 60 DIR    a folder per case: events.csv and leaked.csv

Needs numpy. The same seed writes the same files. The formats are those of tests/fixtures/corpus: `unix_ts,value` lines, and
`conn_id,opened_ts,closed_ts,remote,bytes_sent,last_activity_ts` where an empty `closed_ts` is still open at the end.
"""

import argparse
import csv
import os
import zlib

import numpy

from simulate import healthy, leaking, lifetimes


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=["series", "lifetimes"])
    arguments.add_argument("folder")
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--count", type=int, default=10, help="series of each class")
    arguments.add_argument("--cases", type=int, default=60, help="cases of lifetimes")
    typed = arguments.parse_args()
    os.makedirs(typed.folder, exist_ok=True)
    if typed.what == "series":
        write_series(typed.folder, typed.seed, typed.count)
    else:
        write_lifetimes(typed.folder, typed.seed, typed.cases)


def generator(seed, name, number):
    """Randomness of its own for each file, so that a new class leaves the others as they were."""
    return numpy.random.default_rng([seed, zlib.crc32(name.encode()), number])


def write_series(folder, seed, count):
    with open(os.path.join(folder, "labels.csv"), "w", newline="") as file:
        labels = csv.writer(file, lineterminator="\n")
        labels.writerow("name,leak,onset_ts,rate_per_hour,class,kind,interval_s,n,n_leaked".split(","))
        for simulate in healthy.CLASSES + leaking.CLASSES:
            for number in range(count):
                name = f"{simulate.__name__}_{number:02}"
                series = simulate(generator(seed, simulate.__name__, number))
                with open(os.path.join(folder, name + ".csv"), "w") as out:
                    out.writelines(f"{t:.3f},{v:.0f}\n" for t, v in zip(series.times, series.values))
                onset = "" if series.onset is None else f"{series.onset:.1f}"
                labels.writerow([name, int(series.onset is not None), onset, f"{series.rate_per_hour:.6g}", simulate.__name__,
                                 series.kind, f"{series.interval:g}", len(series.times), f"{series.leaked:.6g}"])


def write_lifetimes(folder, seed, cases):
    for number in range(cases):
        case = os.path.join(folder, f"case_{number:02}")
        os.makedirs(case, exist_ok=True)
        connections = lifetimes.simulate(generator(seed, "lifetimes", number))
        with open(os.path.join(case, "events.csv"), "w", newline="") as file:
            events = csv.writer(file, lineterminator="\n")
            events.writerow("conn_id,opened_ts,closed_ts,remote,bytes_sent,last_activity_ts".split(","))
            for identity, c in enumerate(connections):
                closed = "" if c.closed is None else f"{c.closed:.1f}"
                events.writerow([identity, f"{c.opened:.1f}", closed, c.remote, c.bytes_sent, f"{c.last_activity:.1f}"])
        with open(os.path.join(case, "leaked.csv"), "w", newline="") as file:
            leaked = csv.writer(file, lineterminator="\n")
            leaked.writerow(["conn_id", "leaked_ts", "kind"])
            for identity, c in enumerate(connections):
                if c.leaked is not None:
                    leaked.writerow([identity, f"{c.leaked:.1f}", c.leak_kind])


if __name__ == "__main__":
    main()
