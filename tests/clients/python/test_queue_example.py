"""The Python example of `examples/queue` against the real binary."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import socketio

from hub import FACT_S, Hub, eventually

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "queue" / "subscriber.py"

# A program may start slowly on a busy machine.
PROGRAM_S = 15


class QueueExample(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = Hub("disk")
        cls.addClassCleanup(cls.hub.stop)

    def start(self):
        """Runs the example; returns it and a function that waits for a text in its output."""
        output = tempfile.TemporaryFile()
        self.addCleanup(output.close)
        program = subprocess.Popen([sys.executable, EXAMPLE, self.hub.url], stdout=output, stderr=subprocess.STDOUT)
        self.addCleanup(program.wait)
        self.addCleanup(program.kill)

        def printed():
            output.seek(0)
            return output.read().decode()

        def says(text):
            try:
                eventually(f"{text!r} of the example", lambda: text in printed(), PROGRAM_S)
            except AssertionError as error:
                raise AssertionError(f"{error}; it had printed:\n{printed()}") from None

        return program, says

    def publish(self, event, table, target=None):
        client = socketio.Client(reconnection=False, request_timeout=FACT_S)
        client.connect(self.hub.url, wait_timeout=FACT_S)
        try:
            receipt = client.call("publish", (target or {"room": "orders", "durable": True}, event, {"table": table}), timeout=FACT_S)
            return receipt.get("pending_for")
        finally:
            client.disconnect()

    def test_events_wait_until_a_handler_has_returned(self):
        program, says = self.start()
        says("reset: 0 pending")
        eventually("subscription", lambda: self.publish("order", 1) == 1, PROGRAM_S)
        says("cooking {'table': 1}")
        self.end(program)
        self.assertEqual(self.publish("order", 2), 1)
        program, says = self.start()
        says("cooking {'table': 2}")
        # A plain event has no object with an offset.
        self.publish("order", 3, "orders")
        says("cooking {'table': 3} None")
        # The client itself would acknowledge an event that has no handler.
        self.assertEqual(self.publish("bill", 2), 1)
        says("no handler for bill")
        self.end(program)
        program, says = self.start()
        says("resumed: 1 pending")

    def end(self, program):
        program.kill()
        program.wait()


if __name__ == "__main__":
    unittest.main()
