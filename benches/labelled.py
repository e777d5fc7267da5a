"""Labelled corpora, and what `unclosed` says of their files."""

import csv
import json
import os
import subprocess
import tarfile

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "fixtures", "corpus")
# As many files as one call judges; their names are far below what a command line holds.
FILES_A_CALL = 1000


def unpacked(folder):
    """Unpacks the corpora of the tests; their folders."""
    for name in sorted(os.listdir(FIXTURES)):
        if name.endswith(".tar.xz"):
            with tarfile.open(os.path.join(FIXTURES, name)) as archive:
                archive.extractall(folder, filter="data")
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]


def is_series(corpus):
    """True for a folder of series, false for one of cases of lifetimes."""
    return os.path.exists(os.path.join(corpus, "labels.csv"))


def labels(corpus):
    """The rows of its labels, and the path of each file."""
    with open(os.path.join(corpus, "labels.csv")) as file:
        return [(row, os.path.join(corpus, row["name"] + ".csv")) for row in csv.DictReader(file)]


def points(path):
    """Times and values."""
    with open(path) as file:
        pairs = [line.split(",") for line in file]
    return [float(pair[0]) for pair in pairs], [float(pair[1]) for pair in pairs]


def judged(binary, paths):
    """The report on each file, by its path."""
    reports = {}
    for begin in range(0, len(paths), FILES_A_CALL):
        command = [binary, "show", "-o", "jsonl", *paths[begin : begin + FILES_A_CALL]]
        for line in subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
            report = json.loads(line)
            reports[report["file"]] = report
    return reports


def cases(corpus):
    """For each case of lifetimes its events' file, its rows, and the kind of each leaked connection by its `conn_id`."""
    for case in sorted(os.listdir(corpus)):
        if not os.path.isdir(os.path.join(corpus, case)):
            continue
        events = os.path.join(corpus, case, "events.csv")
        with open(events) as file, open(os.path.join(corpus, case, "leaked.csv")) as leaked:
            yield events, list(csv.DictReader(file)), {row["conn_id"]: row["kind"] for row in csv.DictReader(leaked)}
