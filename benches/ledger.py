#!/usr/bin/env python3
"""What the ledger costs those who are watched, those who are not, and itself.

    python3 benches/ledger.py [--release-binary target/release/unclosed] [--pairs 7] [--seconds 2] [--only NAME]

The load runs on while `record --every 1s` comes and goes: each window under watch is held against the mean of the two
unwatched ones beside it, which takes away what drifts, and the median of these ratios counts. What a window gives is the
median of its slices. Where the machine is busy with other things, the load's own CPU time a turn, beside it, is the steadier
figure. Run it as root, with a Python that has psycopg2; it needs gcc, libpq-dev and PostgreSQL. Prints a Markdown table, and
ends with 1 where a bound is not kept.
"""

import argparse
import contextlib
import json
import mmap
import os
import pathlib
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import machine
import postgres

HERE = pathlib.Path(__file__).parent
# Until whoever was attached or detached has done what comes once: symbols of new stacks, the end of a recording.
SETTLE_SECONDS = 1.5
# What is measured at once, within a window.
SLICE_SECONDS = 0.1
# For the CPU of the ledger itself.
BUSY_SECONDS = 10
STATS = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")


# The processors, and the one that a load has to itself.
ALL = os.sched_getaffinity(0)
LOAD = {min(ALL)}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--release-binary", default="target/release/unclosed")
    arguments.add_argument("--pairs", type=int, default=7)
    arguments.add_argument("--seconds", type=float, default=2, help="of a window")
    arguments.add_argument("--only", action="append", help="rows whose names contain this, or another one that is given")
    arguments.add_argument("--flags", default="", help="further ones of the recorder, as `--openers connections`")
    arguments.add_argument("--hooks", action="store_true", help="what each hook takes instead, by the kernel's count")
    typed = arguments.parse_args()
    # Whom it speaks to runs beside the load, always: the scheduler's choice between one processor and two outweighs all else.
    os.sched_setaffinity(0, ALL - LOAD or ALL)
    with contextlib.ExitStack() as until_end:
        bench = Bench(until_end, typed)
        measure = hooks if typed.hooks else throughput
        if not typed.hooks:
            print("| load | unwatched /s | watched /s | ratio | from, to | bound | goal | CPU a turn | more of it | |")
            print("|---|---|---|---|---|---|---|---|---|---|")
        kept = [measure(bench, row) for row in bench.rows() if bench.wants(row.name)]
        if not typed.hooks:
            kept += [busy(bench, name, words) for name, words in bench.busy_loads() if bench.wants(name)]
    sys.exit(0 if all(kept) else 1)


class Row:
    """A load of the table, its bound, and where it is not reached yet the goal beyond."""

    def __init__(self, name, start, bound, goal=""):
        self.name, self.start, self.bound, self.goal = name, start, bound, goal


class Bench:
    """The servers, and how each load is started."""

    def __init__(self, until_end, typed):
        self.typed, self._until_end = typed, until_end
        self.folder = pathlib.Path(until_end.enter_context(tempfile.TemporaryDirectory()))
        self._load = self.folder / "load"
        subprocess.run(["gcc", "-O2", "-o", self._load, HERE / "ledger/load.c", "-I/usr/include/postgresql", "-lpq"], check=True)
        self.postgres = until_end.enter_context(postgres.Server())

    def wants(self, name):
        return not self.typed.only or any(word in name for word in self.typed.only)

    def rows(self):
        tcp, unix = self.postgres.tcp(), self.postgres.unix()
        script = HERE / "ledger/psycopg2_select.py"
        return [
            Row("libpq `SELECT 1`, TCP", lambda: self.start("select", tcp), 0.97),
            Row("libpq `SELECT 1`, Unix socket", lambda: self.start("select", unix), 0.97),
            Row("psycopg2 `SELECT 1`, TCP", lambda: self.python(script, tcp), 0.95),
            Row("C, connect and close", lambda: self.start("connect", self.serve()), 0.85, 0.90),
            Row("C, 64 bytes there and back", lambda: self.start("ask", self.serve()), 0.88, 0.94),
            Row("`pgbench -S`, not watched", self.bystander, 0.99),
        ]

    def busy_loads(self):
        port = self.serve()
        return [("1,000 opens/s of a file", ["open", str(self.folder / "opened"), "1000"]),
                ("1,000 connects/s", ["dial", port, "1000"])]

    def start(self, *words):
        return Load(lambda counter: [self._load, counter, *words], self.folder)

    def python(self, script, dsn):
        return Load(lambda counter: [sys.executable, script, counter, dsn], self.folder)

    def bystander(self):
        return Bystander(self.postgres)

    def serve(self):
        """The port of a server that is nobody's target."""
        counter = counter_in(self.folder)
        words = [self._load, counter, "serve"]
        server = self._until_end.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        self._until_end.callback(server.kill)
        return server.stdout.readline().strip()

    @contextlib.contextmanager
    def watching(self, pid):
        """From when the ledger is attached to when it is gone; gives the recorder's own pid."""
        file = self.folder / "bench.unclosed"
        words = [self.typed.release_binary, "record", "-p", str(pid), "--every", "1s", *self.typed.flags.split(), "--output", file]
        anywhere = {"preexec_fn": lambda: os.sched_setaffinity(0, ALL)}
        recorder = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **anywhere)
        said = next((line for line in recorder.stderr if "Recording to" in line), None)
        assert said, f"{words} did not record"
        time.sleep(SETTLE_SECONDS)
        try:
            yield recorder.pid
        finally:
            recorder.send_signal(signal.SIGINT)
            recorder.stderr.read()
            recorder.wait()
            file.unlink(missing_ok=True)
            time.sleep(SETTLE_SECONDS / 3)


def counter_in(folder):
    """A file in which a load counts its turns."""
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(bytes(8))
    return file.name


class Load:
    """A process that counts its turns where we can read them."""

    def __init__(self, words, folder):
        counter = counter_in(folder)
        with open(counter, "r+b") as file:
            self._turns = mmap.mmap(file.fileno(), 8)
        self._process = subprocess.Popen(words(counter), preexec_fn=lambda: os.sched_setaffinity(0, LOAD))
        self.pid = self._process.pid

    def __enter__(self):
        while self._count() == 0:
            assert self._process.poll() is None, "the load has ended"
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()

    def _count(self):
        return struct.unpack_from("=Q", self._turns)[0]

    def rate(self, seconds):
        """Turns a second over a window from now on, and CPU seconds a turn."""
        slices, counted, used = [], self._count(), machine.cpu_seconds(self.pid)
        for _ in range(round(seconds / SLICE_SECONDS)):
            begun, before = time.monotonic(), self._count()
            time.sleep(SLICE_SECONDS)
            slices.append((self._count() - before) / (time.monotonic() - begun))
        assert self._process.poll() is None, "the load has ended"
        return statistics.median(slices), (machine.cpu_seconds(self.pid) - used) / (self._count() - counted)


class Bystander:
    """pgbench beside a process that is watched and does next to nothing."""

    IDLE = "import socket, time\nwhile True:\n    socket.socket().close(); time.sleep(0.2)"

    def __init__(self, postgres):
        self._pgbench, self._where = f"{postgres.programs}/pgbench", postgres.where()

    def __enter__(self):
        # What names the database stands last.
        *where, _, database = self._where
        self._words = [self._pgbench, *where]
        self._database = database
        subprocess.run([*self._words, "-i", "-q", database], check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self._idle = subprocess.Popen([sys.executable, "-c", self.IDLE])
        self.pid = self._idle.pid
        return self

    def __exit__(self, *_):
        self._idle.kill()
        self._idle.wait()

    def rate(self, seconds):
        words = [*self._words, "-S", "-n", "-M", "prepared", "-T", str(max(2, round(2 * seconds))), self._database]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        # Its CPU time is that of many processes, and none of ours to look at.
        return float(re.search(r"tps = ([\d.]+)", said)[1]), None


def throughput(bench, row):
    """Prints a row; true where its bound is kept."""
    seconds = bench.typed.seconds
    with row.start() as load:
        load.rate(seconds)
        unwatched, watched = [load.rate(seconds)], []
        for _ in range(bench.typed.pairs):
            with bench.watching(load.pid):
                watched.append(load.rate(seconds))
            unwatched.append(load.rate(seconds))
    ratios = [it / beside for it, beside in pairs(watched, unwatched, 0)]
    ratio = statistics.median(ratios)
    rates = " | ".join(f"{statistics.median(rate for rate, _ in each):,.0f}" for each in (unwatched, watched))
    cpu = " | "
    if unwatched[0][1]:
        more = statistics.median(it - beside for it, beside in pairs(watched, unwatched, 1))
        cpu = f"{statistics.median(used for _, used in unwatched) * 1e6:.2f} us | {more * 1e6:+.2f} us"
    goal = f"{row.goal:.0%}" if row.goal else ""
    print(f"| {row.name} | {rates} | {ratio:.1%} | {min(ratios):.1%}, {max(ratios):.1%} | >= {row.bound:.0%} | {goal} | "
          f"{cpu} | {'kept' if ratio >= row.bound else 'NOT KEPT'} |", flush=True)
    return ratio >= row.bound


def pairs(watched, unwatched, which):
    """Each window under watch, and the mean of the two beside it."""
    beside = [(before[which] + after[which]) / 2 for before, after in zip(unwatched, unwatched[1:])]
    return [(it[which], mean) for it, mean in zip(watched, beside)]


def busy(bench, name, words):
    """Prints what share of a core the recorder takes; true where its bound is kept."""
    with bench.start(*words) as load, bench.watching(load.pid) as recorder:
        begun, before = time.monotonic(), machine.cpu_seconds(recorder)
        rate, _ = load.rate(BUSY_SECONDS)
        share = (machine.cpu_seconds(recorder) - before) / (time.monotonic() - begun)
    print(f"| {name}: CPU of the recorder | | {rate:,.0f} | {share:.2%} of a core | | < 5% | | | | "
          f"{'kept' if share < 0.05 else 'NOT KEPT'} |", flush=True)
    return share < 0.05


def hooks(bench, row):
    """Prints what each program in the kernel took a run; the kernel's own counting slows them a little."""
    before = STATS.read_text()
    with row.start() as load, bench.watching(load.pid) as recorder:
        STATS.write_text("1")
        try:
            rate, _ = load.rate(bench.typed.seconds)
            counted = [program for program in programs(recorder) if program.get("run_cnt")]
        finally:
            STATS.write_text(before)
    print(f"{row.name}, {rate:,.0f} /s:")
    for program in counted:
        runs, nanoseconds = program["run_cnt"], program["run_time_ns"]
        print(f"  {program.get('name', '?'):24} {runs:10,} runs, {nanoseconds / runs:8.0f} ns a run", flush=True)
    return True


def programs(recorder):
    """The programs that a process has loaded or linked, as bpftool tells of them."""
    ids = set()
    for entry in pathlib.Path(f"/proc/{recorder}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            ids.update(re.findall(r"^prog_id:\s*(\d+)", entry.read_text(), re.MULTILINE))
    for number in sorted(ids, key=int):
        yield json.loads(subprocess.check_output(["bpftool", "--json", "prog", "show", "id", number]))


if __name__ == "__main__":
    main()
