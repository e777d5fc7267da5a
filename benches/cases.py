#!/usr/bin/env python3
"""Real programs that leak, and the same ones mended: is the verdict right, and does it name where?

    python3 benches/cases.py CASES_DIR [--release-binary target/release/unclosed] [--case NAME] [--lang LANG]

Each folder of CASES_DIR has a `setup.sh`, a `run.sh leak|ok SECONDS` that prints `PID=...`, and an `expect.json`: the
`remote_port`, and in `stack_any` names of which one has to be in the opener's or the last use's stack. Each is copied
elsewhere, and watched in both modes by `record --every 1s --for 45s`. What leaked in truth is what is open at the end beyond
what the mended one has open then. Run it as root. Prints a Markdown table, and ends with 1 where something isn't as it should
be.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

WATCHED_SECONDS = 45
# Beyond the watch, so that the program runs until it has been looked at from outside.
RUN_SECONDS = WATCHED_SECONDS + 15
FOUND_MIN, NAMED_MIN = 0.5, 0.9
# A listening socket has its own port, and nobody at the other end.
LISTEN = "0A"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("cases")
    arguments.add_argument("--release-binary", default="target/release/unclosed")
    arguments.add_argument("--case", action="append", help="one of the folders; all where none is named")
    arguments.add_argument("--lang", action="append", help="those of a language")
    typed = arguments.parse_args()
    unclosed = os.path.abspath(typed.release_binary)
    right = True
    print("| case | leak: verdict | leaked in truth | found | named | own frames whole | ok: verdict | leaked in ok | |\n"
          "|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        # Servers of the cases run as somebody else.
        os.chmod(folder, 0o755)
        copy = pathlib.Path(folder) / "cases"
        shutil.copytree(typed.cases, copy)
        for expected in sorted(copy.glob("*/expect.json")):
            expect = json.loads(expected.read_text())
            if expect["name"] in (typed.case or [expect["name"]]) and expect["lang"] in (typed.lang or [expect["lang"]]):
                right &= judge(unclosed, expected.parent, expect)
    sys.exit(0 if right else 1)


def judge(unclosed, case, expect):
    """Runs a case in both modes and prints its row; true where all is as it should be."""
    subprocess.run(["bash", "setup.sh"], cwd=case, check=True, stdout=sys.stderr)
    fine, open_when_fine = watched(unclosed, case, "ok", expect["remote_port"])
    leaking, open_when_leaking = watched(unclosed, case, "leak", expect["remote_port"])
    leaked = [it for it in resources(leaking) if (it["remote"] or "").endswith(f":{expect['remote_port']}")]
    truth = max(1, open_when_leaking - open_when_fine)
    named = [it for it in leaked if names_one(it, expect["stack_any"])]
    own = [frame for it in leaked for frame in frames_of(it) if frame["own"]]
    whole = [frame for frame in own if frame["function"] and frame["file"] and frame["line"]]
    shares = len(leaked) / truth, share(named, leaked), share(whole, own)
    verdicts = leaking["verdict"]["kind"], fine["verdict"]["kind"]
    wrong = len(resources(fine))
    right = (verdicts[0] == "leak" and verdicts[1] != "leak" and wrong == 0 and shares[0] >= FOUND_MIN
             and shares[1] >= NAMED_MIN and shares[2] >= NAMED_MIN)
    print(f"| {expect['name']} | {verdicts[0]} | {truth} | {len(leaked)}, {shares[0]:.0%} | {len(named)}, {shares[1]:.0%} | "
          f"{len(whole)} of {len(own)}, {shares[2]:.0%} | {verdicts[1]} | {wrong} | {'right' if right else 'WRONG'} |", flush=True)
    for said in [leaking["verdict"]["sentence"], fine["verdict"]["sentence"], *leaking["notes"]]:
        print(f"  {said}", file=sys.stderr)
    for stack, count in sorted(openers(leaked).items(), key=lambda it: -it[1])[:3]:
        print(f"  {count} x {stack}", file=sys.stderr)
    return right


def watched(unclosed, case, mode, port):
    """What was recorded of a case in that mode, and how many of its connections were open at the end."""
    file = case / f"{mode}.unclosed"
    running = subprocess.Popen(["bash", "run.sh", mode, str(RUN_SECONDS)], cwd=case, stdout=subprocess.PIPE, text=True)
    try:
        pid = next(match[1] for match in (re.match(r"PID=(\d+)", line) for line in running.stdout) if match)
        words = ["record", "-p", pid, "--every", "1s", "--for", f"{WATCHED_SECONDS}s", "--output", str(file)]
        subprocess.run([unclosed, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        count = connections(pid, port)
    finally:
        running.terminate()
        running.wait()
    return json.loads(subprocess.check_output([unclosed, "show", str(file), "-o", "json"])), count


def connections(pid, port):
    """How many sockets of a process have that port at their other ends, by /proc."""
    links = (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
    held = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [row.split() for table in ("tcp", "tcp6") for row in open(f"/proc/{pid}/net/{table}").readlines()[1:]]
    return sum(row[3] != LISTEN and row[9] in held and int(row[2].rsplit(":")[-1], 16) == port for row in rows)


def resources(report):
    """What is called leaked."""
    return [it for it in report["resources"] if it["leaked"]]


def frames_of(resource):
    """The frames of who opened it and of who used it last."""
    stacks = resource["opener"], resource["last_use"]
    return [frame for stack in stacks if stack for frame in stack["frames"]]


def names_one(resource, names):
    """True where one of the names is in a function or a file of its stacks."""
    words = [frame[part] or "" for frame in frames_of(resource) for part in ("function", "file", "module")]
    return any(name in word for name in names for word in words)


def openers(leaked):
    """The first own frames of openers and last uses, with how many have them."""
    counts = {}
    for it in leaked:
        words = " / ".join(own_frame(it[role]) for role in ("opener", "last_use"))
        counts[words] = counts.get(words, 0) + 1
    return counts


def own_frame(stack):
    own = [frame for frame in stack["frames"] if frame["own"]] if stack else []
    return f"{own[0]['function']} ({own[0]['file']}:{own[0]['line']})" if own else "no own frame" if stack else "no stack"


def share(some, of):
    return len(some) / len(of) if of else 0.0


if __name__ == "__main__":
    main()
