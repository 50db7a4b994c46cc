"""The stock asyncio client (python-socketio's AsyncClient, aiohttp) with recovery on, on every transport.

Its handlers have a fixed arity. It learns of a lost connection from aiohttp: after an incomplete response to a poll it
would neither report a disconnect nor reconnect.
"""

import asyncio
import unittest

import socketio

from hub import FACT_S, GONE_S, Hub


class OnEveryTransport:
    """Tests of the client; one subclass per row of transports runs them."""

    transports = []

    async def asyncSetUp(self):
        self.hub = Hub("disk")
        self.addCleanup(self.hub.stop)
        self.connects, self.disconnects, self.news = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()
        self.client = socketio.AsyncClient(request_timeout=FACT_S, reconnection_delay=0.1, reconnection_delay_max=0.5)

        async def on_connect():
            await self.connects.put(True)

        async def on_disconnect(reason):
            await self.disconnects.put(reason)

        async def on_news(text, body):
            await self.news.put((text, body))

        self.client.on("connect", on_connect)
        self.client.on("disconnect", on_disconnect)
        self.client.on("news", on_news)
        await self.connect()
        self.addAsyncCleanup(self.client.shutdown)

    async def connect(self):
        await self.client.connect(self.hub.url, transports=self.transports, wait_timeout=FACT_S)

    async def ask(self, event, *args):
        return await self.client.call(event, args, timeout=FACT_S)

    async def join_and_receive(self, text):
        """Joins a room once connected, and receives what it publishes there, without an offset."""
        await asyncio.wait_for(self.connects.get(), GONE_S)
        self.assertEqual((await self.ask("join", "heard"))["room"], "heard")
        self.assertEqual((await self.ask("publish", "heard", "news", text, {"n": 1}))["level"], "accepted")
        self.assertEqual(await asyncio.wait_for(self.news.get(), FACT_S), (text, {"n": 1}))

    async def test_handlers_of_fixed_arity_run_on_the_requested_transport(self):
        await self.join_and_receive("hé 📯")
        self.assertEqual(self.client.transport(), self.transports[-1])
        self.assertEqual(await self.ask("echo", "one"), "one")
        self.assertEqual(await self.ask("echo", "x" * 200_000), "x" * 200_000)
        self.assertEqual(await self.ask("echo", b"\x01\x02\xff"), b"\x01\x02\xff")

    async def test_it_reconnects_after_a_killed_server(self):
        await self.join_and_receive("before")
        self.hub.restart()
        reason = await asyncio.wait_for(self.disconnects.get(), GONE_S)
        self.assertEqual(reason, self.client.reason.TRANSPORT_ERROR)
        await self.join_and_receive("after")

    async def test_it_reconnects_after_a_server_shutdown(self):
        await self.join_and_receive("before")
        self.hub.restart(self.hub.process.terminate)
        await asyncio.wait_for(self.disconnects.get(), GONE_S)
        if self.transports == ["polling"]:
            # A close packet is final for this client (python-engineio 4.15), from any server.
            await self.client.wait()
            await self.connect()
        await self.join_and_receive("after")


class OverWebsocket(OnEveryTransport, unittest.IsolatedAsyncioTestCase):
    transports = ["websocket"]


class OverPolling(OnEveryTransport, unittest.IsolatedAsyncioTestCase):
    transports = ["polling"]


class AfterAnUpgrade(OnEveryTransport, unittest.IsolatedAsyncioTestCase):
    transports = ["polling", "websocket"]


if __name__ == "__main__":
    unittest.main()
