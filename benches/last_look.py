"""What the last look costs a fork and exit: python3 benches/last_look.py PROGRAM, as root.

Rounds of `run` with --fail-on-leak and without it take turns on a loop of fork and exit; beside their ratio stands what
the kernel itself counts for the two programs (kernel.bpf_stats_enabled, set back at the end).
"""

import json
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile

ROUNDS, FORKS = 7, 1_000
STATS = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")
LOOP = f"""
import os, time
begun = time.perf_counter()
for _ in range({FORKS}):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
print((time.perf_counter() - begun) / {FORKS} * 1e6, flush=True)
input()
"""


def loop(program, folder, number, *flags):
    """Microseconds a fork and exit, and what the kernel counted while the loop's end was held back."""
    output = f"--output={folder}/{number}.unclosed"
    command = [program, "run", "--every", "1h", *flags, output, "--", sys.executable, "-c", LOOP]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        taken = float(child.stdout.readline())
        counted = {}
        for found in json.loads(subprocess.check_output(["bpftool", "--json", "prog", "show"])):
            if found.get("name") in ("ends", "follow") and found.get("run_cnt"):
                counted[found["name"]] = found["run_time_ns"] / found["run_cnt"]
    finally:
        # The end of its input ends the loop, however we come here.
        child.communicate("\n")
    return taken, counted


def main():
    program = sys.argv[1]
    # A SIGTERM ends by an exception too, so that the kernel is set back.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        with tempfile.TemporaryDirectory() as folder:
            plain, looked, kernel = [], [], []
            for number in range(ROUNDS):
                plain.append(loop(program, folder, f"plain{number}")[0])
                taken, counted = loop(program, folder, f"looked{number}", "--fail-on-leak")
                looked.append(taken)
                kernel.append(counted)
    finally:
        STATS.write_text(before)
    ratios = [with_it / without for with_it, without in zip(looked, plain)]
    print(f"fork and exit without: {min(plain):7.1f} us at best, {statistics.median(plain):7.1f} us in the middle")
    print(f"fork and exit with:    {min(looked):7.1f} us at best, {statistics.median(looked):7.1f} us in the middle")
    print(f"ratio: {statistics.median(ratios):.3f} in the middle, {min(ratios):.3f} to {max(ratios):.3f}")
    for name in ("follow", "ends"):
        print(f"{name}: {statistics.median(counted[name] for counted in kernel):.0f} ns a run, by the kernel's count")


main()
