"""The stock Python client against the real binary, on every transport: with recovery off, and on, where it says nothing about it or declines.

Handlers of python-socketio have a fixed arity, so that an offset token would be one argument too many.
Nothing sleeps for a fixed time: every wait has a deadline and names the fact that did not come.

Two habits of this client (python-socketio 5.18, python-engineio 4.15) shape what can be asserted. It handles each incoming
message in a thread of its own, so an attachment may overtake the packet it belongs to: binary is left to the JavaScript
tests. And its write loop may end before it has sent the close packet of a polling client: the hub then learns from the
heartbeat that the client has left, which is why heartbeats are short here.
"""

import queue
import unittest

import socketio

from hub import FACT_S, GONE_S, Hub, eventually


class OnEveryTransport:
    """What a stock Python client can rely on; one subclass per row of transports runs it."""

    transports = []
    recovery = "off"
    auth = None

    @classmethod
    def setUpClass(cls):
        cls.hub = Hub(cls.recovery)
        cls.addClassCleanup(cls.hub.stop)

    def connect(self):
        client = socketio.Client(reconnection=False, request_timeout=FACT_S)
        self.addCleanup(client.disconnect)
        client.connect(self.hub.url, auth=self.auth, transports=self.transports, wait_timeout=FACT_S)
        return client

    def ask(self, client, event, *args):
        return client.call(event, args, timeout=FACT_S)

    def test_a_client_connects_and_ends_on_the_transport_it_asked_for(self):
        client = self.connect()
        self.assertEqual(client.transport(), self.transports[-1])
        self.assertTrue(client.get_sid())
        self.assertNotEqual(client.get_sid(), client.eio.sid)

    def test_an_address_with_a_query_copied_from_elsewhere_connects(self):
        # The client appends its own EIO and transport: the last ones count.
        client = socketio.Client(reconnection=False, request_timeout=FACT_S)
        self.addCleanup(client.disconnect)
        url = f"{self.hub.url}/?EIO=3&transport=polling&EIO=4&transport=websocket"
        client.connect(url, auth=self.auth, transports=self.transports, wait_timeout=FACT_S)
        self.assertEqual(client.transport(), self.transports[-1])
        self.assertEqual(self.ask(client, "echo", "one"), "one")

    def test_an_ack_carries_the_arguments_back(self):
        arguments = ("héraut 📯", 1, None, {"nested": [1, {"deep": True}]}, "x" * 200_000)
        client = self.connect()
        self.assertEqual(tuple(self.ask(client, "echo", *arguments)), arguments)
        self.assertEqual(self.ask(client, "echo", "one"), "one")

    def test_two_clients_in_a_room_hear_each_other(self):
        room = "heard"
        a, b = self.connect(), self.connect()
        heard = []
        for client in (a, b):
            events = queue.Queue()
            # A handler of fixed arity: one argument more would be an exception and no event.
            client.on("news", lambda text, body, events=events: events.put((text, body)))
            heard.append(events)

        for client, members in ((a, 1), (b, 2)):
            joined = self.ask(client, "join", room)
            self.assertEqual((joined["room"], joined["members"]), (room, members))
            self.assertEqual(joined["offset"] is None, self.recovery == "off")
        for sender, text in ((a, "from a"), (b, "from b")):
            answer = self.ask(sender, "publish", room, "news", text, {"n": 1})
            self.assertEqual((answer["level"], answer["duplicate"]), ("accepted", False))
            for events in heard:
                self.assertEqual(events.get(timeout=FACT_S), (text, {"n": 1}))

        members = self.ask(a, "members", room)["members"]
        self.assertEqual(sorted(members), sorted([a.get_sid(), b.get_sid()]))
        self.assertEqual(self.ask(b, "leave", room), {"room": room})
        self.assertEqual(self.ask(a, "members", room), {"members": [a.get_sid()]})

    def test_an_unknown_event_is_refused_in_its_ack(self):
        client = self.connect()
        self.assertEqual(self.ask(client, "no-such-event", 1)["error"]["code"], "unknown_event")

    def test_who_disconnects_is_no_longer_a_member(self):
        room = "left"
        a, b = self.connect(), self.connect()
        for client in (a, b):
            self.ask(client, "join", room)
        b.disconnect()
        self.assertFalse(b.connected)
        eventually(
            "members without the one that left",
            lambda: self.ask(a, "members", room) == {"members": [a.get_sid()]},
            GONE_S,
        )


class OverWebsocket(OnEveryTransport, unittest.TestCase):
    transports = ["websocket"]


class OverPolling(OnEveryTransport, unittest.TestCase):
    transports = ["polling"]


class AfterAnUpgrade(OnEveryTransport, unittest.TestCase):
    transports = ["polling", "websocket"]


class Returning:
    """With recovery on, and nothing said about it: fixed arity holds, also after the connection was lost."""

    def test_handlers_of_fixed_arity_run_after_a_reconnection(self):
        heard, connected = queue.Queue(), queue.Queue()
        client = socketio.Client(request_timeout=FACT_S, reconnection_delay=0.1, reconnection_delay_max=0.5)
        self.addCleanup(client.disconnect)
        client.on("connect", lambda: connected.put(True))
        client.on("news", lambda text: heard.put(text))
        client.connect(self.hub.url, transports=self.transports, wait_timeout=FACT_S)
        for text in ("before", "after"):
            connected.get(timeout=GONE_S)
            self.ask(client, "join", "returning")
            self.ask(client, "publish", "returning", "news", text)
            self.assertEqual(heard.get(timeout=FACT_S), text)
            if text == "before":
                self.hub.restart()


class OverWebsocketUndeclared(Returning, OverWebsocket):
    recovery = "disk"


class OverPollingUndeclared(Returning, OverPolling):
    recovery = "disk"


class AfterAnUpgradeUndeclared(Returning, AfterAnUpgrade):
    recovery = "disk"


class OverWebsocketDeclining(OverWebsocket):
    recovery, auth = "disk", {"recovery": False}


class OverPollingDeclining(OverPolling):
    recovery, auth = "disk", {"recovery": False}


class AfterAnUpgradeDeclining(AfterAnUpgrade):
    recovery, auth = "disk", {"recovery": False}


if __name__ == "__main__":
    unittest.main()
