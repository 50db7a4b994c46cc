"""The program under test. Another one needs the methods of `Writer`, `stored` lines as described in `History`, and the folder of its queue."""

import contextlib
import json
import os
import signal
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPEN_S = 30


def build():
    """Path of the writer, which is built unless STENTOR_QUEUE_WRITER names one."""
    if os.environ.get("STENTOR_QUEUE_WRITER"):
        return os.environ["STENTOR_QUEUE_WRITER"]
    command = ["cargo", "build", "--features", "bench-internals", "--bench", "queue_writer", "--message-format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    # Cargo builds the binary beside it.
    return next(message["executable"] for message in messages if message.get("executable") and message["target"]["name"] == "queue_writer")


class Writer:
    """`queue_writer` on a folder; publishes from `go` on until it is killed or has stored `events`."""

    PUBLISHERS = 4

    def __init__(self, binary, folder, history, events=0, synchronous=None, wrapper=()):
        self.queue = os.path.join(folder, "data", "queue")
        first = ",".join(str(history.next_of(publisher)) for publisher in range(self.PUBLISHERS))
        command = [*wrapper, binary, self.queue, str(events), first] + ([synchronous] if synchronous else [])
        self.lines = []
        self._new_line = threading.Condition()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "RUST_LOG": "error"},
            start_new_session=True,
        )
        self.errors = []
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_lines(self):
        for line in self.process.stdout:
            with self._new_line:
                self.lines.append(line.rstrip("\n"))
                self._new_line.notify_all()
        with self._new_line:
            self.lines.append("end")
            self._new_line.notify_all()

    def wait_line(self, is_found, seconds=OPEN_S, after=0):
        """True if such a line was printed, false if the program ended before or the time ran out."""
        found = lambda: any(is_found(line) for line in self.lines[after:])
        with self._new_line:
            self._new_line.wait_for(lambda: found() or "end" in self.lines, seconds)
            return found()

    def wait_lines(self, count, seconds, is_counted=lambda line: True, after=0):
        counted = lambda: sum(map(is_counted, self.lines[after:]))
        with self._new_line:
            self._new_line.wait_for(lambda: counted() >= count or "end" in self.lines, seconds)

    def wait_open(self):
        return self.wait_line(lambda line: line == "open")

    def go(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def wait_end(self, seconds):
        """True if the program has ended."""
        try:
            self.process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False

    def kill(self):
        """SIGKILL; returns when everything that the program printed was read."""
        # Its wrapper as well.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for reader in self._readers:
            reader.join()
        self.process.stdin.close()
        return self.lines[:-1]
