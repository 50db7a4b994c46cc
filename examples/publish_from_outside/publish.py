"""Publishes an event and prints the receipt. It needs the server's API key, and no package:

    STENTOR_API_KEY=… python3 publish.py [address] [room] [text]
"""

import json
import os
import sys
import urllib.error
import urllib.request

DEFAULTS = ["http://127.0.0.1:3000", "lobby", "hello from Python"]
ADDRESS, ROOM, TEXT = sys.argv[1:] + DEFAULTS[len(sys.argv) - 1 :]


def publish(room, event, *args):
    request = urllib.request.Request(
        f"{ADDRESS}/api/v1/publish",
        json.dumps({"room": room, "event": event, "args": args}).encode(),
        {"Authorization": f"Bearer {os.environ.get('STENTOR_API_KEY', '')}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


try:
    print(publish(ROOM, "news", TEXT))
except urllib.error.HTTPError as error:
    sys.exit(f"not published: HTTP {error.code}, {error.read().decode()}")
except OSError as error:
    sys.exit(f"no answer, the event may or may not have been published: {error}")
