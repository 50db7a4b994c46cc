"""Checks docs/openapi.json against a running `stentor serve` with schemathesis: a bounded number of
requests from a fixed seed, right and wrong ones, and what the server answers to them."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BINARY = Path(os.environ.get("STENTOR_BIN", ROOT / "target/debug/stentor"))
KEY = "0123456789abcdef"
START_S = 10
RUN_S = 59

SETTINGS = {
    "STENTOR_API_KEY": KEY,
    "STENTOR_QUEUE": "memory",
    "STENTOR_RECOVERY": "memory",
    # Pulls wait no longer than this, whatever they ask for.
    "STENTOR_PULL_WAIT_MAX": "10ms",
    "STENTOR_LOG_LEVEL": "error",
}


def serve(port):
    """Starts the server and waits until it accepts connections."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STENTOR_")}
    process = subprocess.Popen([BINARY, "serve", "--port", str(port)], env={**inherited, **SETTINGS})
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process
        except OSError:
            time.sleep(0.02)
    process.kill()
    sys.exit(f"{BINARY} does not listen on port {port}")


def main():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    schema = ROOT / "docs/openapi.json"
    server = serve(port)
    try:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                Path(sys.executable).absolute().parent / "schemathesis", "--config-file", HERE / "schemathesis.toml",
                "run", schema, "--url", f"http://127.0.0.1:{port}", "--header", f"Authorization: Bearer {KEY}",
            ]
            status = subprocess.run(command, cwd=folder, timeout=RUN_S).returncode
        if server.poll() is not None:
            sys.exit(f"the server has ended with status {server.returncode}")
    except subprocess.TimeoutExpired:
        sys.exit(f"schemathesis has not ended within {RUN_S} s")
    finally:
        server.terminate()
        server.wait()
    sys.exit(status)


main()
