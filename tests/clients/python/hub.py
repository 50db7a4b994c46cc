"""`stentor serve` on a free port, for the tests of Python's clients."""

import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
BINARY = Path(os.environ.get("STENTOR_BIN", "../../target/debug/stentor"))
if not BINARY.is_absolute():
    BINARY = (HERE.parent / BINARY).resolve()

START_S = 10
STOP_S = 10
FACT_S = 5
# Longer than ping interval and ping timeout together.
GONE_S = 15
POLL_S = 0.02

HEARTBEAT = ["--ping-interval", "1s", "--ping-timeout", "5s"]


def eventually(what, probe, seconds=FACT_S):
    """Returns the first true value of `probe`; fails with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} within {seconds} s")
        time.sleep(POLL_S)


class Hub:
    """`stentor serve` on a free port."""

    def __init__(self, recovery):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = tempfile.TemporaryFile()
        self.data = tempfile.TemporaryDirectory()
        self.flags = ["--port", str(self.port), "--recovery", recovery, "--data-dir", self.data.name + "/kept"] + HEARTBEAT
        self.start()

    def restart(self, end=None):
        """Ends the process, by `kill -9` unless `end` is given, and starts another one on the same port."""
        (end or self.process.kill)()
        self.process.wait()
        self.start()

    def start(self):
        self.process = subprocess.Popen([BINARY, "serve"] + self.flags, stdout=self.output, stderr=subprocess.STDOUT)
        try:
            eventually(f"listener on port {self.port}", self._accepts, START_S)
        except AssertionError as error:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{error}; it had printed:\n{self.printed()}") from None

    def _accepts(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{BINARY} ended before it listened: {self.process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def printed(self):
        self.output.seek(0)
        return self.output.read().decode(errors="replace")

    def stop(self):
        """Ends the process by SIGTERM; fails if it had crashed, or does not exit in time with status 0."""
        crashed = self.process.poll()
        self.process.terminate()
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = f"not within {STOP_S} s of SIGTERM"
        printed = self.printed()
        self.output.close()
        self.data.cleanup()
        if crashed is not None or code != 0:
            raise AssertionError(f"the hub ended {'by itself' if crashed is not None else 'badly'}: {code}; it had printed:\n{printed}")
