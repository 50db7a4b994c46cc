"""The stock Python clients as subscribers of `stentor serve`: what a handler returns is the ack."""

import asyncio
import queue
import unittest
import uuid

import socketio

from hub import FACT_S, Hub, eventually


class HandlerReturnsTheAck(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = Hub("disk")
        cls.addClassCleanup(cls.hub.stop)

    def client(self):
        client = socketio.Client(reconnection=False, request_timeout=FACT_S)
        self.addCleanup(client.disconnect)
        return client

    def test_a_refused_event_comes_again_and_none_acknowledges(self):
        name, room = uuid.uuid4().hex, uuid.uuid4().hex
        kitchen, till = self.client(), self.client()
        attached, seen, answers = queue.Queue(), [], [{"nak": True, "delay": 10}, None]
        kitchen.on("stentor:attached", attached.put)

        @kitchen.on("order")
        def order(number, meta):
            seen.append((number, meta.get("redelivered", False)))
            return answers[len(seen) - 1]

        kitchen.connect(self.hub.url, auth={"subscriber": name}, transports=["websocket"], wait_timeout=FACT_S)
        self.assertEqual(attached.get(timeout=FACT_S)["status"], "reset")
        kitchen.call("join", (room, {"durable": True}), timeout=FACT_S)
        till.connect(self.hub.url, transports=["websocket"], wait_timeout=FACT_S)
        stored = till.call("publish", ({"room": room, "durable": True}, "order", 7), timeout=FACT_S)
        self.assertEqual((stored["level"], stored["pending_for"]), ("stored", 1))
        eventually("nothing pending", lambda: kitchen.call("pending", timeout=FACT_S)["events"] == 0)
        self.assertEqual(seen, [(7, False), (7, True)])

    def test_the_asynchronous_client_acknowledges_with_any_value(self):
        async def receive():
            name, room = uuid.uuid4().hex, uuid.uuid4().hex
            kitchen, attached = socketio.AsyncClient(reconnection=False), asyncio.Event()
            kitchen.on("stentor:attached", lambda verdict: attached.set())

            @kitchen.on("order")
            async def order(number, meta):
                return "cooked"

            await kitchen.connect(self.hub.url, auth={"subscriber": name}, transports=["websocket"])
            await asyncio.wait_for(attached.wait(), FACT_S)
            await kitchen.call("join", (room, {"durable": True}), timeout=FACT_S)
            await kitchen.call("publish", ({"room": room, "durable": True}, "order", 7), timeout=FACT_S)
            while (await kitchen.call("pending", timeout=FACT_S))["events"] > 0:
                await asyncio.sleep(0.02)
            await kitchen.disconnect()

        asyncio.run(asyncio.wait_for(receive(), 2 * FACT_S))


if __name__ == "__main__":
    unittest.main()
