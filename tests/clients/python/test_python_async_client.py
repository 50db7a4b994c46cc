"""The stock asyncio client (python-socketio's AsyncClient, aiohttp) with recovery on, on every transport.

Its handlers have a fixed arity, and it learns of a lost connection from aiohttp: a poll that the server answered by half
would leave it without a disconnect event, and without a reconnection.
"""

import asyncio
import unittest

import socketio

from hub import FACT_S, GONE_S, Hub


class OnEveryTransport:
    """What the client can rely on; one subclass per row of transports runs it."""

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

    async def hear(self, text):
        """Connected, it joins a room and hears what it publishes there, with just its arguments."""
        await asyncio.wait_for(self.connects.get(), GONE_S)
        self.assertEqual((await self.ask("join", "heard"))["room"], "heard")
        self.assertEqual((await self.ask("publish", "heard", "news", text, {"n": 1}))["level"], "accepted")
        self.assertEqual(await asyncio.wait_for(self.news.get(), FACT_S), (text, {"n": 1}))

    async def test_handlers_of_fixed_arity_run_on_the_transport_it_asked_for(self):
        await self.hear("hé 📯")
        self.assertEqual(self.client.transport(), self.transports[-1])
        self.assertEqual(await self.ask("echo", "one"), "one")
        self.assertEqual(await self.ask("echo", "x" * 200_000), "x" * 200_000)
        self.assertEqual(await self.ask("echo", b"\x01\x02\xff"), b"\x01\x02\xff")

    async def test_a_killed_server_is_noticed_and_returned_to(self):
        await self.hear("before")
        self.hub.restart()
        reason = await asyncio.wait_for(self.disconnects.get(), GONE_S)
        self.assertEqual(reason, self.client.reason.TRANSPORT_ERROR)
        await self.hear("after")

    async def test_a_server_that_shuts_down_is_noticed_and_returned_to(self):
        await self.hear("before")
        self.hub.restart(self.hub.process.terminate)
        await asyncio.wait_for(self.disconnects.get(), GONE_S)
        if self.transports == ["polling"]:
            # A close packet is final for this client (python-engineio 4.15), whichever server sends it.
            await self.client.wait()
            await self.connect()
        await self.hear("after")


class OverWebsocket(OnEveryTransport, unittest.IsolatedAsyncioTestCase):
    transports = ["websocket"]


class OverPolling(OnEveryTransport, unittest.IsolatedAsyncioTestCase):
    transports = ["polling"]


class AfterAnUpgrade(OnEveryTransport, unittest.IsolatedAsyncioTestCase):
    transports = ["polling", "websocket"]


if __name__ == "__main__":
    unittest.main()
