/** Stock clients over TLS of the server's own, with a certificate that `openssl` makes. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { ask, client, CLIENTS, closeClients, connect, connected, freshFolder, listen, startHub, TRANSPORTS } from "./harness.mjs";

/** A certificate of 127.0.0.1 that is its own issuer, with its key, in a new folder. */
async function certificate() {
  const folder = freshFolder();
  await mkdir(folder, { recursive: true });
  const [cert, key] = ["cert.pem", "key.pem"].map((name) => path.join(folder, name));
  const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", "-x509", ...kind, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
  return { cert, key, ca: readFileSync(cert) };
}

describe("over TLS", () => {
  let hub;
  let ca;
  before(async () => {
    const made = await certificate();
    ca = made.ca;
    hub = await startHub({ flags: ["--tls-certificate-file", made.cert, "--tls-key-file", made.key] });
    hub.url = hub.url.replace("http:", "https:");
  });
  after(async () => {
    closeClients();
    await hub.stop();
  });

  for (const { name, transports } of TRANSPORTS) {
    test(`${name}: a stock client publishes, and receives text and binary`, async () => {
      const [first, second] = [await connect(hub, { transports, ca }), await connect(hub, { transports, ca })];
      await ask(second, "join", "lobby");
      const messages = listen(second, "message");
      const large = "x".repeat(500_000);
      await ask(first, "publish", "lobby", "message", large);
      await ask(first, "publish", "lobby", "message", Buffer.from([0, 255, 1]));
      await messages.count(2);
      assert.deepEqual(messages.received[0], [large]);
      assert.deepEqual([...messages.received[1][0]], [0, 255, 1]);
      closeClients();
    });

    test(`${name}: a client that does not know the issuer is refused by itself`, async () => {
      await assert.rejects(connected(client(hub, { transports })), /connect_error/);
    });
  }

  test("a page's websocket, wss, with the client library of this server", async () => {
    const { WebSocket } = await import("ws");
    class Trusting extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols, { ca });
      }
    }
    const io = (url, options) => CLIENTS["static/client"](url, { ...options, WebSocket: Trusting });
    const socket = await connect(hub, { io, transports: ["websocket"] });
    assert.deepEqual(await ask(socket, "echo", 1), [1]);
  });
});
