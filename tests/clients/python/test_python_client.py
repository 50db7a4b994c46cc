"""The stock Python client against the real binary on every transport: with recovery off, and on with and without opting out.

Handlers of python-socketio have a fixed arity, so an offset would be one argument too many.
Nothing sleeps for a fixed time: every wait has a deadline, and its error names the missing result.

Two properties of this client (python-socketio 5.18, python-engineio 4.15) limit the assertions. It handles each incoming
message in a thread of its own, so an attachment may overtake its packet: only the JavaScript tests cover binary. Its write loop may end before it has sent the close packet of a polling client. The hub then
notices the disconnect by the heartbeat, so heartbeats are short here.
"""

import queue
import unittest

import socketio

from hub import FACT_S, GONE_S, Hub, eventually


class OnEveryTransport:
    """Tests of a stock Python client; one subclass per row of transports runs them."""

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

    def test_a_client_uses_the_requested_transport_to_the_end(self):
        client = self.connect()
        self.assertEqual(client.transport(), self.transports[-1])
        self.assertTrue(client.get_sid())
        self.assertNotEqual(client.get_sid(), client.eio.sid)

    def test_an_address_with_a_copied_query_connects(self):
        # The client appends its own EIO and transport; the last ones count.
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

    def test_two_clients_in_a_room_receive_each_others_events(self):
        room = "heard"
        a, b = self.connect(), self.connect()
        heard = []
        for client in (a, b):
            events = queue.Queue()
            # A handler of fixed arity: one more argument would raise instead of an event.
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

    def test_a_disconnected_client_is_no_longer_a_member(self):
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


class Reconnecting:
    """Recovery is on and the client does not opt out: fixed arity holds, also after a reconnection."""

    def test_handlers_of_fixed_arity_run_after_a_reconnection(self):
        received, connected = queue.Queue(), queue.Queue()
        client = socketio.Client(request_timeout=FACT_S, reconnection_delay=0.1, reconnection_delay_max=0.5)
        self.addCleanup(client.disconnect)
        client.on("connect", lambda: connected.put(True))
        client.on("news", lambda text: received.put(text))
        client.connect(self.hub.url, transports=self.transports, wait_timeout=FACT_S)
        for text in ("before", "after"):
            connected.get(timeout=GONE_S)
            self.ask(client, "join", "reconnecting")
            self.ask(client, "publish", "reconnecting", "news", text)
            self.assertEqual(received.get(timeout=FACT_S), text)
            if text == "before":
                self.hub.restart()


class OverWebsocketUndeclared(Reconnecting, OverWebsocket):
    recovery = "disk"


class OverPollingUndeclared(Reconnecting, OverPolling):
    recovery = "disk"


class AfterAnUpgradeUndeclared(Reconnecting, AfterAnUpgrade):
    recovery = "disk"


class OverWebsocketDeclining(OverWebsocket):
    recovery, auth = "disk", {"recovery": False}


class OverPollingDeclining(OverPolling):
    recovery, auth = "disk", {"recovery": False}


class AfterAnUpgradeDeclining(AfterAnUpgrade):
    recovery, auth = "disk", {"recovery": False}


if __name__ == "__main__":
    unittest.main()
