"""Failing calls of the store: EIO and ENOSPC from single calls, from some, and from all later ones; and a full disk.

Shown: nothing is confirmed from a failure until the store was opened again, a program that is not killed recovers by itself when calls
succeed again, the next start has everything that was confirmed, and no number is used twice. Meanwhile the server reports the failure in
/readyz, metrics and log, and sockets exchange plain events. The calls of an undisturbed run are counted first: without them there is nothing
to fail.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import disk as disks
from history import History, read
from program import Writer
from serve import Serve

EVENTS = 40
RUN_S = 30
DISK_BYTES = 16 << 20
# Opening needs room for what the log has, at most all of the rest.
BALLAST_BYTES = 5 << 20
# Verdicts that a lasting failure is watched for.
REFUSED_MIN = 12
# Closing checkpoints the log of a run, which is at most this many calls.
CALLS_OF_CLOSE_MAX = 120
# A commit that needs these and fails cannot succeed meanwhile. Reads may be answered from memory.
NEEDED = ["pwrite64", "fsync", "fdatasync"]
# Calls in a row that fail and then succeed, past the first attempts to open the store again.
SOME = 3
# The server has the store of the writer, so a few show what it makes of them.
BRIEF_FAULTS = [("pwrite64", "ENOSPC"), ("fsync", "EIO"), ("fdatasync", "EIO")]
FAULTS = [("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("fsync", "EIO"), ("fsync", "ENOSPC"), ("fdatasync", "EIO"), ("ftruncate", "EIO"), ("pread64", "EIO")]
TRACED = sorted({call for call, _ in FAULTS})


def is_refusal(line):
    return line.startswith(("indeterminate", "unavailable"))


def traced(folder, log, fault=()):
    """strace of the calls at the files of a queue, with a fault."""
    queue = os.path.join(folder, "data", "queue")
    paths = [queue, f"{queue}/queue.sqlite3", f"{queue}/queue.sqlite3-wal"]
    return ["strace", "-f", "-qq", "-o", log, *[word for path in paths for word in ("-P", path)], "-e", f"trace={','.join(TRACED)}", *fault]


class Run:
    """A folder, the programs that run on it one after the other, and what they confirmed."""

    def __init__(self, program):
        self.program = program
        self.folder = tempfile.mkdtemp(prefix="stentor-faults-")
        self.log = os.path.join(self.folder, "strace")
        self.history = History()
        self.lost = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def undisturbed(self, events, wrapper=()):
        """Opens the store, checks it, and stores more."""
        program = self.program(self.folder, self.history, events, wrapper=wrapper)
        if not program.wait_open():
            program.kill()
            return self.history.problems.append(f"not opened: {' '.join(program.errors)}")
        if not wrapper:
            store = read(program.queue)
            self.lost += self.history.check(store)
            self.history.problems += program.check_folder(store)
        program.go()
        has_ended = program.wait_end(RUN_S)
        lines = program.kill()
        self.history.add(lines)
        if not has_ended or sum(line.startswith("stored") for line in lines) != events:
            self.history.problems.append(f"undisturbed, but only {len(lines)} lines: {' '.join(program.errors)}")

    def disturbed(self, call, error, when):
        """How the program reacted: `refused` to open, `recovered`, `closed` for as long as the fault lasts, or not at all."""
        fault = ["-e", f"inject={call}:error={error}:when={when}"]
        program = self.program(self.folder, self.history, EVENTS, wrapper=traced(self.folder, self.log, fault))
        if not program.wait_open():
            self.history.add(program.kill())
            return "refused"
        program.go()
        is_lasting = when.endswith("+")
        if is_lasting:
            program.wait_lines(REFUSED_MIN, RUN_S, is_refusal)
        has_refused = lambda: any(map(is_refusal, program.lines))
        if is_lasting and has_refused():
            has_ended = False
            if call in NEEDED:
                self.history.problems += program.check_failed()
        else:
            has_ended = program.wait_published(RUN_S)
            if has_refused() and has_ended:
                self.history.problems += program.check_recovered()
            has_ended = program.wait_end(RUN_S)
        lines = program.kill()
        self.history.add(lines)
        refusals = [at for at, line in enumerate(lines) if is_refusal(line)]
        if is_lasting and call in NEEDED and refusals:
            later = [line for line in lines[refusals[0] :] if not is_refusal(line)]
            if len(later) > program.UNREAD_MAX:
                self.history.problems.append(f"confirmed while {call} failed: {later[:3]}")
        elif not has_ended and not is_lasting:
            self.history.problems.append(f"did not recover: {lines[-3:]} {' '.join(program.errors)}")
        if refusals:
            return "recovered" if has_ended else "closed"
        calls = Path(self.log).read_text().splitlines()
        failed = next((at for at, line in enumerate(calls) if "(INJECTED)" in line), None)
        if failed is None:
            return "not reached"
        # Closing the store may fail, since the log is kept then.
        if call in NEEDED and len(calls) - failed > CALLS_OF_CLOSE_MAX:
            self.history.problems.append(f"a failed {call} was ignored: {calls[failed]}")
        return "ignored"


def count_calls(program, is_new):
    """Calls of each kind by the thread that makes most of them, since strace counts by thread."""
    with Run(program) as run:
        if not is_new:
            run.undisturbed(EVENTS)
        run.undisturbed(EVENTS, traced(run.folder, run.log))
        by_thread = Counter(re.findall(r"^(\d+) +(\w+)\(", Path(run.log).read_text(), re.MULTILINE))
    calls = Counter()
    for (_, call), count in by_thread.items():
        calls[call] = max(calls[call], count)
    return calls


def inject(program, rng, points_max, faults, endings, states):
    """Fails calls with each of `endings`: one call, some, or all later ones. `states` are true for a new queue, false for an existing one."""
    name = program.func.NAME
    problems, reactions, runs = [], Counter(), 0
    for is_new in states:
        calls = count_calls(program, is_new)
        print(f"faults: {name}: calls of {EVENTS} events in {'a new' if is_new else 'an existing'} queue: {dict(calls)}", flush=True)
        for call in NEEDED[:1] + ["ftruncate"]:
            if not calls[call]:
                sys.exit(f"faults: BLIND, no {call} was seen")
        if not calls["fsync"] + calls["fdatasync"]:
            sys.exit("faults: BLIND, no sync was seen")
        for call, error in faults:
            if not calls[call]:
                continue
            # Most commits are in the middle; the ends are opening and closing.
            points = [calls[call] // 2, 1, calls[call], *(rng.randint(1, calls[call]) for _ in range(points_max))]
            for first in sorted({max(point, 1) for point in points[:points_max]}):
                for ending in endings:
                    when = f"{first}{ending}" if ending != ".." else f"{first}..{first + SOME}"
                    with Run(program) as run:
                        if not is_new:
                            run.undisturbed(EVENTS)
                        reaction = run.disturbed(call, error, when)
                        run.undisturbed(8)
                        runs += 1
                        reactions[call, reaction] += 1
                        where = f"{name}: {call} {error} {when}"
                        problems += [f"{where}: lost {run.lost[:5]}"] * bool(run.lost)
                        problems += [f"{where}: {problem}" for problem in run.history.problems]
    for call in NEEDED:
        if any(of == call for of, _ in reactions) and not reactions[call, "closed"] + reactions[call, "recovered"]:
            problems.append(f"{name}: no failure of {call} met a commit")
    summary = ", ".join(f"{call} {reaction} {count}" for (call, reaction), count in sorted(reactions.items()))
    print(f"faults: {name}: runs={runs} ({summary}) problems={len(problems)}", flush=True)
    return problems


def fill(program, block):
    """A queue on a disk of 16 MiB, which becomes full, and then has room again."""
    with tempfile.NamedTemporaryFile() as file, Run(program) as run:
        file.write(disks.format_ext4(DISK_BYTES, block))
        file.flush()
        with contextlib.ExitStack() as stack:
            try:
                device = disks.run("losetup", "--find", "--show", file.name)
                stack.callback(disks.detach, device)
                folder = stack.enter_context(disks.mounted(device))
            except OSError as error:
                raise disks.Unavailable(str(error)) from error
            run.folder, own = folder, run.folder
            stack.callback(setattr, run, "folder", own)
            return [f"{program.func.NAME}: disk of {block}-byte blocks: {problem}" for problem in full(run, folder)]


def full(run, folder):
    ballasts = [Path(folder, "first"), Path(folder, "second")]
    for ballast in ballasts:
        ballast.write_bytes(bytes(BALLAST_BYTES))
    program = run.program(folder, run.history)
    if not program.wait_open():
        program.kill()
        return [f"not opened: {' '.join(program.errors)}"]
    program.go()
    program.wait_lines(REFUSED_MIN, RUN_S, is_refusal)
    stored = sum(line.startswith("stored") for line in program.lines)
    refused = sum(map(is_refusal, program.lines))
    run.history.problems += program.check_failed()
    ballasts[0].unlink()
    until = len(program.lines)
    has_recovered = program.wait_line(lambda line: line.startswith("stored"), RUN_S, after=until)
    run.history.problems += program.check_recovered()
    # Full again.
    program.wait_lines(REFUSED_MIN, RUN_S, is_refusal, after=len(program.lines))
    run.history.add(program.kill())
    restart = run.program(folder, run.history)
    on_full = "opened" if restart.wait_open() else "refused"
    restart.wait_end(0 if on_full == "opened" else RUN_S)
    run.history.add(restart.kill())
    text = f"{' '.join(restart.errors)} exit status {restart.process.returncode}"
    ballasts[1].unlink()
    run.undisturbed(8)
    run.undisturbed(1)
    run.lost += run.history.check(read(program.queue))
    print(f"faults: {run.program.func.NAME}: full disk: stored={stored} refused={refused} recovered={has_recovered} restart={on_full} lost={len(run.lost)}", flush=True)
    problems = run.history.problems + [f"lost {run.lost[:5]}"] * bool(run.lost)
    problems += ["no event was refused"] * (not refused) + ["nothing was stored after room was made"] * (not has_recovered)
    problems += [f"refused without a remedy: {text}"] * (on_full == "refused" and "make room" not in text)
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--points", type=int, default=5, help="calls of each kind that fail, one at a time")
    options = parser.parse_args()
    writer, serve = partial(Writer, Writer.build()), partial(Serve, Serve.build())
    begun, problems = time.monotonic(), []
    can_trace = shutil.which("strace") and subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True).returncode == 0
    is_brief = options.points == 1
    if can_trace:
        rng = random.Random(options.seed)
        states = [False] if is_brief else [True, False]
        problems += inject(writer, rng, options.points, FAULTS, ["", "+"], states)
        of_server = (BRIEF_FAULTS, ["+", ".."]) if is_brief else (FAULTS, ["", "+", ".."])
        problems += inject(serve, rng, options.points, *of_server, states)
    else:
        print("faults: failing calls SKIPPED, strace is missing or may not trace")
    try:
        # The block size decides which file meets the end of the disk.
        fills = [(writer, 1024), (serve, 4096)]
        for program, block in fills if is_brief else [*fills, (writer, 4096), (serve, 1024)]:
            problems += fill(program, block)
    except disks.Unavailable as error:
        print(f"faults: full disk SKIPPED, this machine cannot mount one: {error}")
    print(f"faults: seed={options.seed} in {time.monotonic() - begun:.0f} s")
    for problem in problems[:20]:
        print(f"faults: {problem}")
    if problems:
        sys.exit("faults: FAILED")
    print("faults: passed")


if __name__ == "__main__":
    main()
