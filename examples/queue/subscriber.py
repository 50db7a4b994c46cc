"""A durable subscriber with python-socketio. The return value of a handler is the ack.

    pip install "python-socketio[asyncio_client]"
    python subscriber.py [address] [name] [room]
"""

import asyncio
import sys

import socketio

DEFAULTS = ["http://127.0.0.1:3000", "kitchen", "orders"]
ADDRESS, NAME, ROOM = sys.argv[1:] + DEFAULTS[len(sys.argv) - 1 :]

sio = socketio.AsyncClient()
# The client starts a task for each event. The lock is fair, so they run in order.
one_at_a_time = asyncio.Lock()


def durable(handler):
    """Acknowledges an event when its handler has returned, and requests it again otherwise."""

    async def handle(*args):
        try:
            async with one_at_a_time:
                await handler(*args)
        except ValueError as error:
            return {"term": True, "reason": str(error)}  # a dead letter
        except Exception as error:
            print(f"failed: {error}", file=sys.stderr, flush=True)
            return {"nak": True}  # again after the back-off; "delay" in milliseconds

    return handle


@sio.on("order")
@durable
async def order(order, meta=None):  # a plain event of this name has no meta
    print("cooking", order, meta and meta["offset"], flush=True)


# Without this handler the client acknowledges events that have none.
@sio.on("*")
async def unknown(event, *args):
    print(f"no handler for {event}", *args, file=sys.stderr, flush=True)
    return {"nak": True}


@sio.event
async def connect():
    # The subscription outlives the connection; joining again changes nothing.
    await sio.emit("join", (ROOM, {"durable": True}))


@sio.on("stentor:attached")
async def attached(verdict):
    print(f"{verdict['status']}: {verdict['pending']} pending", *verdict["gaps"], flush=True)


async def main():
    await sio.connect(ADDRESS, auth={"subscriber": NAME})
    await sio.wait()


asyncio.run(main())
