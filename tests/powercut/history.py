"""What the program confirmed, and whether the store still has it."""

import json
import sqlite3
import subprocess
import sys

# Numbers that the writer acknowledges.
ACKED_EVERY = 8


class History:
    """Collects the lines of the program over all its starts.

    `stored <number> <publisher>-<n>[ duplicate]`: an event was confirmed. `repeated …`: one that had been confirmed was again.
    `acked <number>`: an acknowledgement was confirmed. `problem <text>`: an answer that must not be.
    Other lines say that an event was not confirmed: `unavailable <id>`, `indeterminate <id>`.
    """

    def __init__(self):
        self.numbers = {}
        self.ids = {}
        self.acked = set()
        self.confirmed = 0
        self.repeated = 0
        self.epoch = None
        self.problems = []

    def next_of(self, publisher):
        """Number of the first event of a publisher that was not confirmed."""
        numbers = [int(id.split("-")[1]) for id in self.numbers if id.startswith(f"{publisher}-")]
        return max(numbers, default=0) + 1

    def add(self, lines):
        for line in lines:
            kind, *words = line.split(" ")
            if kind == "stored":
                self.confirmed += 1
                self._give(int(words[0]), words[1])
            elif kind == "repeated":
                self.repeated += 1
                if words[2:] != ["duplicate"]:
                    self.problems.append(f"a repeated event was not answered as duplicate: {line}")
                self._give(int(words[0]), words[1])
            elif kind == "problem":
                self.problems.append(line)
            elif kind == "acked":
                self.acked.add(int(words[0]))

    def _give(self, number, id):
        if self.numbers.setdefault(id, number) != number:
            self.problems.append(f"event {id} has the numbers {self.numbers[id]} and {number}")
        if self.ids.setdefault(number, id) != id:
            self.problems.append(f"number {number} was given to {self.ids[number]} and {id}")

    def check(self, store):
        """Compares with a store that was opened after what was added. Returns the ids that are lost."""
        if store["integrity"] != ["ok"]:
            self.problems.append(f"integrity_check: {str(store['integrity'])[:200]}")
        dedup = {id: number for number, id in store["dedup"]}
        events = {id: number for number, id in store["events"]}
        if len(dedup) != len(store["dedup"]) or len(events) != len(store["events"]):
            self.problems.append("an id is stored twice")
        is_open = set(store["open"])
        lost = []
        for id, number in self.numbers.items():
            needs_event = number % ACKED_EVERY != 0
            if dedup.get(id) != number or needs_event and (events.get(id) != number or number not in is_open):
                lost.append(id)
        reverted = sorted(self.acked & is_open)
        if reverted:
            self.problems.append(f"acknowledged events are pending again: {reverted[:5]}")
        self.epoch = self.epoch or store["epoch"]
        if store["epoch"] != self.epoch:
            self.problems.append(f"the epoch is {store['epoch']}, but it was {self.epoch}")
        newest = max(self.ids, default=0)
        if store["head"] < newest and not lost:
            self.problems.append(f"head is {store['head']}, but {newest} was given")
        # Readers may have seen what is stored now, so it may not be lost later.
        for id, number in [*dedup.items(), *events.items()]:
            self._give(number, id)
        return lost


def read(queue):
    """The content of a store, read by a process of its own."""
    done = subprocess.run([sys.executable, __file__, queue], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"exit status {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def main():
    database = sqlite3.connect(f"file:{sys.argv[1]}/queue.sqlite3?mode=ro", uri=True)
    rows = lambda query: database.execute(query).fetchall()
    database.execute("BEGIN")
    store = {
        "integrity": [row[0] for row in rows("PRAGMA integrity_check")],
        "head": rows("SELECT head FROM queue")[0][0],
        "epoch": rows("SELECT epoch FROM queue")[0][0],
        "dedup": [(number, id.decode()) for number, id in rows("SELECT number, id FROM dedup")],
        "events": [(number, json.loads(payload)[1]) for number, payload in rows("SELECT number, payload FROM event")],
        "open": [row[0] for row in rows("SELECT number FROM event_room WHERE remaining > 0")],
    }
    json.dump(store, sys.stdout)


if __name__ == "__main__":
    main()
