"""Runs a Python block: `run_py.py <file> once|service`. Waiting for a client ends when it has been
connected for a moment; the block is then finished, and an exception in a handler is a failure."""

import asyncio
import os
import runpy
import sys
import threading
import time

import socketio

file, mode = sys.argv[1:]
HANDLERS_S = 0.3


def end(status):
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def settled(client):
    if not client.connected:
        sys.exit("the client is not connected")
    print("settled", flush=True)


class Wait:
    def wait(self):
        time.sleep(HANDLERS_S)
        settled(self)
        if mode == "service":
            threading.Event().wait()


class AsyncWait:
    async def wait(self):
        await asyncio.sleep(HANDLERS_S)
        settled(self)
        if mode == "service":
            await asyncio.Event().wait()


def report(arguments):
    sys.excepthook(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
    end(1)


threading.excepthook = report
socketio.Client.wait = Wait.wait
socketio.AsyncClient.wait = AsyncWait.wait
try:
    runpy.run_path(file, run_name="__main__")
except BaseException as error:
    if not (isinstance(error, SystemExit) and not error.code):
        sys.excepthook(type(error), error, error.__traceback__)
        end(1)
end(0)
