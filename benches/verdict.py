#!/usr/bin/env python3
"""How right the verdict is on labelled corpora, beside the rules that people use today.

    target/venv/bin/python benches/verdict.py [--release-binary target/release/unclosed] [--classes] [CORPUS...]

Without a corpus, those of tests/fixtures/corpus; `benches/corpus.py` writes others. Needs numpy, scipy and pymannkendall,
which `./test` installs. Prints Markdown tables. Classes named `u_` can't be decided by their numbers: they count in no
figure, and are told apart.
"""

import argparse
import os
import statistics
import tempfile
from collections import defaultdict

import labelled
import peers


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpora", nargs="*")
    arguments.add_argument("--release-binary", default="target/release/unclosed")
    arguments.add_argument("--classes", action="store_true", help="tell the classes that the verdict is wrong on")
    arguments.add_argument("--no-peers", action="store_true", help="only the verdict of unclosed")
    typed = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        corpora = typed.corpora or labelled.unpacked(scratch)
        table_of_series([c for c in corpora if labelled.is_series(c)], typed)
        table_of_lifetimes([c for c in corpora if not labelled.is_series(c)], typed)


def median(values, digits=3):
    return f"{statistics.median(values):.{digits}f}" if values else "-"


def table_of_series(corpora, typed):
    print("| corpus | method | precision | recall | F1 | false alarms | worst class | onset error | rate error | 95% covers | undecided "
          "| ramps without an end |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for corpus in corpora:
        rows = labelled.labels(corpus)
        reports = labelled.judged(typed.release_binary, [path for _, path in rows])
        said = {path: reports[path]["verdict"]["kind"] == "leak" for _, path in rows}
        name = os.path.basename(corpus.rstrip("/"))
        print(f"| {name} | unclosed | {figures(rows, said)} | {estimates(rows, reports)} |", flush=True)
        if typed.classes:
            tell_classes(rows, said)
        if typed.no_peers:
            continue
        series = {path: labelled.points(path) for _, path in rows}
        for method, rule in peers.ON_SERIES.items():
            said = {path: rule(*series[path]) for _, path in rows}
            print(f"| {name} | {method} | {figures(rows, said)} | - | - | - | - | {endless(rows, said)} |", flush=True)


def is_decidable(label):
    return not label["class"].startswith("u_")


def endless(rows, said):
    """Series that can't be decided that were called a leak all the same."""
    calls = [said[path] for label, path in rows if not is_decidable(label)]
    return f"{sum(calls)}/{len(calls)}"


def figures(rows, said):
    """Precision, recall, F1, false alarms in all and in the worst class, as cells."""
    right = wrong = leaks = healthy = 0
    classes = defaultdict(list)
    for label, path in filter(lambda row: is_decidable(row[0]), rows):
        if label["leak"] == "1":
            leaks += 1
            right += said[path]
        else:
            healthy += 1
            wrong += said[path]
            classes[label["class"]].append(said[path])
    worst = max(((sum(calls) / len(calls), name) for name, calls in classes.items()), default=(0, "-"))
    return f"{score(right, wrong, leaks - right)} | {wrong}/{healthy} | {worst[0]:.0%} {worst[1] if worst[0] else ''}"


def score(found, wrong, missed):
    precision, recall = found / max(1, found + wrong), found / max(1, found + missed)
    return f"{precision:.3f} | {recall:.3f} | {2 * precision * recall / max(1e-9, precision + recall):.3f}"


def estimates(rows, reports):
    """Onset, rate and interval of the leaks that were found, what was left undecided, and the endless ramps, as cells."""
    onsets, rates, covered = [], [], []
    for label, path in rows:
        verdict, report = reports[path]["verdict"], reports[path]
        if label["leak"] != "1" or verdict["kind"] != "leak":
            continue
        span = report["to"] - report["from"]
        since, rate, truth = verdict["since"], verdict["rate_per_hour"], float(label["rate_per_hour"])
        onsets.append(1.0 if since is None else abs(since - float(label["onset_ts"])) / span)
        rates.append(1.0 if rate is None else abs(rate - truth) / truth)
        low, high = verdict["rate_low"], verdict["rate_high"]
        covered.append(low is not None and high is not None and low <= truth <= high)
    undecided = sum(reports[path]["verdict"]["kind"] == "undecided" for label, path in rows if is_decidable(label))
    cover = f"{sum(covered) / len(covered):.1%}" if covered else "-"
    said = {path: reports[path]["verdict"]["kind"] == "leak" for _, path in rows}
    return f"{median(onsets)} | {median(rates)} | {cover} | {undecided} | {endless(rows, said)}"


def tell_classes(rows, said):
    wrong = defaultdict(list)
    for label, path in rows:
        wrong[label["class"]].append(said[path] != (label["leak"] == "1"))
    for name, calls in sorted(wrong.items()):
        if any(calls):
            print(f"|  | wrong: {name} | {sum(calls)} of {len(calls)} |")


def table_of_lifetimes(corpora, typed):
    print("\n| corpus | method | precision | recall | F1 | leaks that still chat | silent ones | clean cases with any flag |")
    print("|---|---|---|---|---|---|---|---|")
    for corpus in corpora:
        cases = list(labelled.cases(corpus))
        reports = labelled.judged(typed.release_binary, [events for events, _, _ in cases])
        leaked = lambda events: {str(it["id"]) for it in reports[events]["resources"] if it["leaked"]}
        methods = {"unclosed": [leaked(events) for events, _, _ in cases]}
        if not typed.no_peers:
            methods |= {name: [rule(rows) for _, rows, _ in cases] for name, rule in peers.ON_LIFETIMES.items()}
        for name, calls in methods.items():
            print(f"| {os.path.basename(corpus.rstrip('/'))} | {name} | {connections(cases, calls)} |", flush=True)


def connections(cases, calls):
    found = wrong = missed = clean = flagged = 0
    kinds = defaultdict(list)
    for (_, _, truth), said in zip(cases, calls):
        found += len(said & truth.keys())
        wrong += len(said - truth.keys())
        missed += len(truth.keys() - said)
        for identity, kind in truth.items():
            kinds[kind].append(identity in said)
        clean += not truth
        flagged += bool(said) and not truth
    share = lambda kind: f"{sum(kinds[kind])}/{len(kinds[kind])}"
    return f"{score(found, wrong, missed)} | {share('chatty')} | {share('silent')} | {flagged}/{clean}"


if __name__ == "__main__":
    main()
