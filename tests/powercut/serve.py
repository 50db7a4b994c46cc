"""`stentor serve` as a program under test: publishers over HTTP, a subscriber that keeps events, and two sockets beside them."""

import contextlib
import http.client
import json
import os
import subprocess
import tempfile
import signal
import threading
import time
import uuid
from pathlib import Path

from history import ACKED_EVERY
from program import Program, build

API_KEY = "key-of-the-power-cut"
REQUEST_S = 30
RETRY_S = 0.005
# Confirmed events that each publisher repeats first, since a retry is answered with the first receipt.
REPEATED = 3
# Pauses in which the store's upkeep of idle times runs.
IDLE_EVERY = 150
IDLE_S = 0.6
ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
FAILED = (OSError, http.client.HTTPException)


def number_of(offset):
    """Number of the event of an offset token."""
    number = 0
    for character in offset[8:]:
        number = number * 64 + ALPHABET.index(character)
    return number


class Api:
    """One connection to the server."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_S)

    def request(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
        self.connection.request(method, path, body and json.dumps(body), headers)
        return self.connection.getresponse().read().decode()

    def call(self, method, path, body=None):
        """The answer, and the code of its error."""
        answer = json.loads(self.request(method, f"/api/v1/{path}", body))
        return answer, answer.get("error", {}).get("code")


class Socket:
    """A Socket.IO client over HTTP long-polling, as far as this rig needs one."""

    URL = "/socket.io/?EIO=4&transport=polling"

    def __init__(self, port):
        self.api = Api(port)
        self.packets = []
        self.url = f"{self.URL}&sid={json.loads(self.api.request('GET', self.URL)[1:])['sid']}"
        self._send("40")
        self.wait("40")

    def _send(self, packet):
        self.api.connection.request("POST", self.url, packet, {"Content-Type": "text/plain;charset=UTF-8"})
        self.api.connection.getresponse().read()

    def emit(self, *event):
        """Emits an event and returns the arguments of its ack."""
        self._send(f"420{json.dumps(event)}")
        return json.loads(self.wait("430[")[3:])

    def wait(self, start):
        """Polls until a packet with this start has come."""
        deadline = time.monotonic() + REQUEST_S
        while time.monotonic() < deadline:
            for packet in self.packets:
                if packet.startswith(start):
                    self.packets.remove(packet)
                    return packet
            self.packets += self.api.request("GET", self.url).split("\x1e")
            if "2" in self.packets:
                self.packets.remove("2")
                self._send("3")
        raise TimeoutError(f"no packet {start} after {REQUEST_S} s")


class Serve(Program):
    """The server on a data folder. With `reboots`, the machine seems to have been started again before."""

    NAME = "serve"
    # Answers may be read in another order than they were given.
    UNREAD_MAX = Program.PUBLISHERS

    @staticmethod
    def build():
        return build("stentor", "--bin", "stentor")

    def __init__(self, binary, folder, history, events=0, wrapper=(), reboots=False):
        self.binary = binary
        self.events = events
        self.port = None
        self.publishers = []
        self.tickets = 0
        self.stored = 0
        self.finished = 0
        self.is_stopped = False
        # Held during a pause of all publishers.
        self.lock = threading.Lock()
        self.boot_id = tempfile.NamedTemporaryFile("w", prefix="stentor-boot-")
        self.boot_id.write(f"{uuid.uuid4()}\n")
        self.boot_id.flush()
        boot = ["unshare", "--mount", "sh", "-c", f'mount --bind "$0" {BOOT_ID} && exec "$@"', self.boot_id.name] if reboots else []
        options = f"serve --port 0 --workers 1 --drain 100ms --journal-segment-bytes 1MiB --journal-segments-max 2 --api-key {API_KEY}"
        command = lambda self: [*boot, *wrapper, binary, *options.split(), "--data-dir", self.data]
        super().__init__(folder, history, command, {"STENTOR_LOG_LEVEL": "info"})

    def on_output(self, line):
        if "listens on" in line:
            self.port = int(line.rsplit(":", 1)[1])
            self.print("open")

    def go(self):
        self._start_publisher(self._subscribe)

    def _start_publisher(self, *work):
        self.publishers.append(self._start(self._until_it_ends, *work))

    def _until_it_ends(self, work, *args):
        try:
            work(Api(self.port), *args)
        except FAILED as error:
            # A killed server answers nothing.
            if not self.is_stopped and self.process.poll() is None:
                self.print(f"problem no answer: {error!r}")

    def _subscribe(self, api):
        """The subscriber `kitchen` exists before the first event, so it keeps all that it does not acknowledge."""
        self._repeat(api, "kitchen", "PUT", "subscribers/kitchen", {"rooms": ["orders"]})
        for publisher, first in enumerate(self.first):
            self._start_publisher(self._publish, publisher, first)

    def _repeat(self, api, id, *request):
        """Requests until the answer is no failure of the queue."""
        while True:
            answer, error = api.call(*request)
            if not error:
                return answer
            if error not in ("unavailable", "indeterminate"):
                return self.print(f"problem {id}: {answer}")
            self.print(f"{error} {id}")
            time.sleep(RETRY_S)

    def _publish(self, api, publisher, first):
        for n in range(max(first - REPEATED, 1), first):
            self._publish_one(api, "repeated", publisher, n)
        n = first
        while self._take_ticket() and not self.is_stopped:
            self._publish_one(api, "stored", publisher, n)
            n += 1
        with self.lock:
            self.finished += 1
            if self.finished == self.PUBLISHERS:
                self.print("end")

    def _take_ticket(self):
        with self.lock:
            self.tickets += 1
            return self.tickets <= self.events or not self.events

    def _publish_one(self, api, kind, publisher, n):
        # Those of the writer, so that both work on one queue.
        id, filling = f"{publisher}-{n}", "x" * (n * 997 % 6_000)
        event = {"room": "orders", "event": "order", "args": [id, filling], "durable": True, "dedup_id": id}
        answer = self._repeat(api, id, "POST", "publish", event)
        if not answer:
            return
        number = number_of(answer["offset"])
        self.print(f"{kind} {number} {id}{' duplicate' * answer['duplicate']}")
        if answer["level"] != "stored" or answer["pending_for"] != 1:
            self.print(f"problem {id}: {answer}")
        if number % ACKED_EVERY == 0 and self._repeat(api, "ack", "POST", "subscribers/kitchen/ack", {"offsets": [answer["offset"]]}):
            self.print(f"acked {number}")
        with self.lock:
            self.stored += 1
            if self.stored % IDLE_EVERY == 0:
                time.sleep(IDLE_S)

    def check_folder(self, store):
        checked = self._queue("check")
        pending = [json.loads(line)["number"] for line in self._queue("peek", "kitchen").stdout.splitlines()]
        problems = [f"queue check: {checked.stdout}{checked.stderr}"] * (checked.returncode != 0)
        return problems + ["queue peek shows other events than the store has"] * (pending != sorted(store["open"]))

    def _queue(self, *command):
        return subprocess.run([self.binary, "queue", *command, "--data-dir", self.data], capture_output=True, text=True)

    def check_failed(self):
        api, problems = Api(self.port), []
        for path, expected in [("/readyz", "the queue has failed"), ("/metrics", "stentor_queue_available 0")]:
            answer = api.request("GET", path)
            if expected not in answer:
                problems.append(f"{path} of a failed queue, expected {expected!r}: {answer[-300:]}")
        return problems + self._check_log("queue failed, durable events are refused") + self._check_sockets()

    def check_recovered(self):
        problems = self._check_log("queue opened again")
        answer = Api(self.port).request("GET", "/readyz")
        return problems + self._check_sockets() + [f"/readyz of a recovered queue: {answer}"] * (answer != "ok")

    def _check_log(self, expected):
        return [] if any(expected in line for line in self.errors) else [f"not logged: {expected}"]

    def _check_sockets(self):
        """Plain events from one socket to another."""
        sender, receiver = Socket(self.port), Socket(self.port)
        receiver.emit("join", "plain")
        try:
            for n in range(20):
                sender.emit("publish", "plain", "news", n)
                receiver.wait(f'42["news",{n}')
        except FAILED as error:
            return [f"plain events do not arrive: {error!r}"]
        return []

    def wait_published(self, seconds):
        deadline = time.monotonic() + seconds
        # The first of them starts the others, which this loop meets as well.
        for publisher in self.publishers:
            publisher.join(max(deadline - time.monotonic(), 0))
        return not any(publisher.is_alive() for publisher in self.publishers)

    def wait_end(self, seconds):
        """Stops the server when everything was stored."""
        if not self.wait_published(seconds):
            return False
        self.is_stopped = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._server_id(), signal.SIGTERM)
        return super().wait_end(seconds)

    def _server_id(self):
        """Process id of the server, which may be the child of a wrapper."""
        id = self.process.pid
        while True:
            try:
                children = Path(f"/proc/{id}/task/{id}/children").read_text().split()
            except OSError:
                return id
            if not children:
                return id
            id = int(children[0])

    def kill(self):
        has_ended = self.process.poll() is not None
        if has_ended and self.port and not self.is_stopped:
            self.print(f"problem ended by itself with {self.process.returncode}: {' '.join(self.errors[-3:])}")
        self.is_stopped = True
        lines = super().kill()
        self.boot_id.close()
        return lines
