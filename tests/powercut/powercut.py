"""Cuts the power of a disk on which the queue works, and checks that everything it confirmed is there afterwards.

A cycle: the disk is attached with the image that the last cut left, the file system is mounted, a program opens the queue and its store is
checked, then publishers publish until power is cut: at a random write of the disk, or after a random number of confirmed events. The programs
take turns at random on one disk: the server, and a writer that is a committer with its store. Before every fourth cycle, events are written
without sync and their program is killed: what the next start shows of them must survive too. The controls, stores that sync less and disks
that do not flush, must lose events; otherwise this rig sees nothing, and it fails.
"""

import argparse
import math
import os
import random
import sys
import tempfile
import time
from functools import partial

import disk as disks
from history import History, read
from program import Writer
from serve import Serve

IMAGE_BYTES = 64 << 20
# Then an empty disk follows, so that creation is cut as well.
CYCLES_PER_DISK = 10
WRITES_MAX = 1_000
# Up to about here the file system is mounted and the store opened; as many cuts are earlier as later ones.
EARLY_WRITES_MAX = 120
LINES_MAX = 400
CYCLE_S = 30
PROGRESS_CYCLES = 25
CONTROL_CYCLES = 20


class Rig:
    """`programs` are started with a folder and a history. `unsynced` is a writer that does not sync commits."""

    def __init__(self, programs, unsynced, seed, is_control=False, flushes=True):
        self.programs = programs
        self.unsynced = unsynced
        self.rng = random.Random(seed)
        self.flushes = flushes
        self.is_control = is_control
        self.cuts = {mode: 0 for mode in disks.MODES}
        self.early = 0
        self.checks = 0
        self.confirmed = 0
        self.repeated = 0
        self.lost = []
        self.problems = []
        # Before the cycle under way.
        self.image = None

    def run(self, cycles):
        empty = disks.format_ext4(IMAGE_BYTES)
        for nth in range(cycles):
            if nth % CYCLES_PER_DISK == 0:
                image, history = empty, History()
            self.image = image
            image = self.cycle(image, history, *self.draw_cut())
            if nth + 1 == cycles or (nth + 1) % CYCLES_PER_DISK == 0 or self.is_control:
                self.image = image
                self.cycle(image, history)
            self.problems += history.problems
            history.problems = []
            if self.lost or self.problems and not self.is_control:
                return
            if (nth + 1) % PROGRESS_CYCLES == 0:
                print(f"powercut: so far {self}", flush=True)

    def draw_cut(self):
        """The number of the write at which power is cut, or of lines."""
        if self.is_control:
            return None, self.rng.randrange(1, LINES_MAX)
        if self.rng.random() < 0.3:
            return int(math.exp(self.rng.uniform(0, math.log(EARLY_WRITES_MAX)))), None
        if self.rng.random() < 0.3:
            return self.rng.randrange(1, WRITES_MAX), None
        return None, self.rng.choice([0, self.rng.randrange(LINES_MAX)])

    def cycle(self, image, history, cut_at=None, lines=None):
        """Works until power is cut, and returns the image that is left. Without a cut the store is checked only."""
        is_last = cut_at is None and lines is None
        disk = disks.Disk(image, cut_at, self.flushes or is_last)
        is_open = False
        with disk.attached() as device:
            try:
                with disks.mounted(device) as folder:
                    if not is_last and self.rng.random() < 1 / 4:
                        self.write_without_sync(folder, history)
                    is_open = self.work(disk, folder, history, lines)
            except OSError as error:
                # It could not be mounted, or the program not started.
                if not disk.is_cut.is_set():
                    self.fail(history, str(error))
        if is_last:
            return None
        self.early += not is_open
        mode = self.rng.choice(["none", "any"] if self.is_control else disks.MODES)
        self.cuts[mode] += 1
        return disk.after_cut(self.rng, mode)

    def write_without_sync(self, folder, history):
        """Its confirmations do not count."""
        program = self.unsynced(folder, history)
        if program.wait_open():
            program.go()
            program.wait_lines(self.rng.randrange(2, LINES_MAX), CYCLE_S)
        program.kill()

    def work(self, disk, folder, history, lines):
        """Publishes until power is cut, by the disk or after so many lines. Returns whether the store was checked."""
        is_checked = False
        program = self.rng.choice(self.programs)(folder, history)
        if program.wait_open():
            try:
                store = read(program.queue)
                is_checked = True
            except OSError as error:
                if not disk.is_cut.is_set():
                    self.fail(history, f"store: {error}")
            if is_checked:
                self.checks += 1
                self.lost += history.check(store)
                # A cut may come meanwhile.
                problems = program.check_folder(store)
                if not disk.is_cut.is_set():
                    history.problems += problems
            if disk.cut_at or lines:
                program.go()
            if disk.cut_at:
                disk.is_cut.wait(CYCLE_S)
            elif lines:
                program.wait_lines(lines, CYCLE_S)
            disk.cut()
        elif not disk.is_cut.is_set():
            program.wait_end(CYCLE_S)
            self.fail(history, f"open: {' '.join(program.errors)}")
        # The host dies with its disk; a confirmation that is printed meanwhile counts.
        confirmed, repeated = history.confirmed, history.repeated
        history.add(program.kill())
        self.confirmed += history.confirmed - confirmed
        self.repeated += history.repeated - repeated
        return is_checked

    def fail(self, history, text):
        """A disk that cannot be used has lost everything."""
        self.problems.append(text)
        if self.is_control:
            self.lost += history.numbers

    def __str__(self):
        modes = " ".join(f"{mode}={count}" for mode, count in self.cuts.items())
        return (
            f"cuts={sum(self.cuts.values())} ({modes}; {self.early} before the store was open) checks={self.checks} "
            f"confirmed={self.confirmed} repeated={self.repeated} lost={len(self.lost)} problems={len(self.problems)}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--program", choices=["writer", "serve", "both"], default="both")
    options = parser.parse_args()
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        return print("powercut: SKIPPED, it needs Linux and root to mount a disk of its own")
    writer, serve = partial(Writer, Writer.build()), partial(Serve, Serve.build(), reboots=True)
    rig = partial(Rig, unsynced=partial(writer, synchronous="NORMAL"), seed=options.seed)
    controls = {
        "writer with synchronous=OFF": rig([partial(writer, synchronous="OFF")], is_control=True),
        "writer with synchronous=NORMAL": rig([partial(writer, synchronous="NORMAL")], is_control=True),
        "server on a disk that does not flush": rig([serve], is_control=True, flushes=False),
    }
    begun = time.monotonic()
    try:
        for name, control in controls.items():
            control.run(CONTROL_CYCLES)
            print(f"powercut: control, {name}: {control}", flush=True)
            if not control.lost:
                sys.exit(f"powercut: BLIND, the control has lost nothing {control.problems[:1]}")
        rig = rig({"writer": [writer], "serve": [serve], "both": [writer, serve]}[options.program])
        rig.run(options.cycles)
    except disks.Unavailable as error:
        return print(f"powercut: SKIPPED, this machine cannot attach a disk of its own: {error}")
    print(f"powercut: {rig} seed={options.seed} in {time.monotonic() - begun:.0f} s")
    for problem in rig.problems[:10]:
        print(f"powercut: {problem}")
    if rig.lost or rig.problems:
        with tempfile.NamedTemporaryFile(prefix="stentor-powercut-", delete=False) as file:
            file.write(rig.image)
        sys.exit(f"powercut: FAILED, lost {rig.lost[:10]}; the disk before the cycle that found it is {file.name}")
    if not rig.checks or not rig.confirmed:
        sys.exit("powercut: FAILED, nothing was confirmed or checked")
    print("powercut: passed")


if __name__ == "__main__":
    main()
