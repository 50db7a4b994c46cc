/**
 * Faults of the proxy have their effects on bytes and connections, so that a run without findings
 * did have faults.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import { Link } from "./proxy.mjs";

let server;
let link;

/** Connections seen by the server, the newest last. */
const accepted = [];

before(async () => {
  server = net.createServer((socket) => {
    accepted.push(socket);
    socket.on("error", () => {}).on("data", (chunk) => socket.write(chunk));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  link = await new Link(server.address().port).listen();
});

after(() => {
  link.close();
  server.close();
  for (const socket of accepted) socket.destroy();
});

/** A connection through the proxy that has sent and received data. */
async function connected() {
  const { port, hostname } = new URL(link.url);
  const socket = net.connect(Number(port), hostname);
  const received = [];
  // Each test decides how it ends.
  socket.on("data", (chunk) => received.push(chunk)).on("error", () => {});
  const echo = async (text) => {
    const before = received.length;
    socket.write(text);
    let length = 0;
    while (length < text.length) {
      await once(socket, "data");
      length = Buffer.concat(received.slice(before)).length;
    }
    return received.slice(before).map(String);
  };
  await echo("hello");
  return { socket, echo, peer: accepted.at(-1) };
}

describe("a proxy", () => {
  test("that drops ends the connection on both sides", async () => {
    const { socket, peer } = await connected();
    const ends = Promise.all([once(socket, "end"), once(peer, "end")]);
    link.drop();
    await ends;
  });

  test("that resets resets it on both sides", async () => {
    const { socket, peer } = await connected();
    const errors = Promise.all([once(socket, "error"), once(peer, "error")]);
    link.reset();
    assert.deepEqual((await errors).map(([{ code }]) => code), ["ECONNRESET", "ECONNRESET"]);
  });

  test("that is silent forwards nothing and closes only the client's side", async () => {
    const { socket, peer } = await connected();
    let notified = false;
    peer.on("data", () => (notified = true)).on("close", () => (notified = true));
    const end = once(socket, "end");
    link.silence(10);
    socket.write("lost");
    await end;
    const { echo } = await connected();
    await echo("a later connection works");
    assert.equal(notified, false);
    assert.equal(peer.readyState, "open");
    peer.destroy();
  });

  test("that stalls loses nothing and keeps the order", async () => {
    const { socket, echo } = await connected();
    link.stall(20);
    const received = echo("one two three");
    assert.equal((await received).join(""), "one two three");
    socket.destroy();
  });

  test("that is offline resets each connection until it is cleared", async () => {
    link.offline(60_000);
    await assert.rejects(connected(), { code: "ECONNRESET" });
    link.clear();
    const { socket } = await connected();
    socket.destroy();
  });

  test("forwards every byte with delays and slicing", async () => {
    const { socket, echo } = await connected();
    link.weather = { latency: 2, sliced: true };
    const received = await echo("byte by byte");
    assert.equal(received.join(""), "byte by byte");
    link.clear();
    socket.destroy();
  });

  test("ends a connection whose server has ended", async () => {
    const { socket, peer } = await connected();
    const close = once(socket, "close");
    peer.destroy();
    await close;
  });
});
