"""Programs under test. `Program` is the part of all of them; `serve.py` has the server."""

import contextlib
import json
import os
import signal
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPEN_S = 30


def build(name, *options):
    """Path of a binary, which is built unless a variable such as STENTOR_BIN names one."""
    named = os.environ.get({"stentor": "STENTOR_BIN", "queue_writer": "STENTOR_QUEUE_WRITER"}[name])
    if named:
        return os.path.abspath(named)
    command = ["cargo", "build", *options, "--message-format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    # Cargo builds binaries of benches beside them.
    return next(message["executable"] for message in messages if message.get("executable") and message["target"]["name"] == name)


class Program:
    """A process on a data folder that publishes from `go` on until it is killed or has stored `events`.

    What it confirms is in `lines`, as described in `History`; `open` is the line of one that has opened its queue, and `end` the last one.
    """

    PUBLISHERS = 4
    # Confirmations that may stand behind a refusal that was given later.
    UNREAD_MAX = 0

    def __init__(self, folder, history, command, environment):
        self.data = os.path.join(folder, "data")
        self.queue = os.path.join(self.data, "queue")
        self.first = [history.next_of(publisher) for publisher in range(self.PUBLISHERS)]
        self.lines = []
        self.errors = []
        self._new_line = threading.Condition()
        self.process = subprocess.Popen(
            command(self),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        self.threads = []
        self._start(self._read_output)
        self._start(lambda: self.errors.extend(self.process.stderr))

    def _start(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        thread.start()
        self.threads.append(thread)
        return thread

    def _read_output(self):
        for line in self.process.stdout:
            self.on_output(line.rstrip("\n"))
        self.print("end")

    def on_output(self, line):
        self.print(line)

    def print(self, line):
        with self._new_line:
            self.lines.append(line)
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

    def wait_published(self, seconds):
        """True if everything that is to be stored was stored."""
        return self.wait_end(seconds)

    def wait_end(self, seconds):
        """True if the program has ended after that."""
        try:
            self.process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False

    def check_folder(self, store):
        """Problems that the program's own tools see in its folder, beside what was read of its store."""
        return []

    def check_failed(self):
        """Problems of a program whose queue has failed."""
        return []

    def check_recovered(self):
        """Problems of a program whose queue had failed and was opened again."""
        return []

    def kill(self):
        """SIGKILL; returns when everything that the program printed was read."""
        # Its wrapper as well.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for thread in self.threads:
            thread.join()
        self.process.stdin.close()
        return [line for line in self.lines if line != "end"]


class Writer(Program):
    """`queue_writer`, a committer with its store alone, which can be made to sync less."""

    NAME = "writer"

    @staticmethod
    def build():
        return build("queue_writer", "--features", "bench-internals", "--bench", "queue_writer")

    def __init__(self, binary, folder, history, events=0, synchronous=None, wrapper=()):
        options = [synchronous] if synchronous else []
        command = lambda self: [*wrapper, binary, self.queue, str(events), ",".join(map(str, self.first)), *options]
        super().__init__(folder, history, command, {"RUST_LOG": "error"})

    def go(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
