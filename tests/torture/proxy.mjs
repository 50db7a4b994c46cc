/**
 * A network that can be bad: one listener in front of one server, for one client, so that a fault hits whom it should. It forwards
 * bytes and knows no protocol.
 *
 * `drop` ends connections (FIN), `reset` resets them (RST), `silence` swallows what passes and keeps both ends open (a phone in a
 * tunnel), `stall` holds it back for a while; `offline` refuses new connections. `weather` is how the others are forwarded.
 * A server that is down is met as it would be without a proxy: the connection breaks.
 */

import { once } from "node:events";
import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";

/** Larger chunks are not sliced: a byte a write costs a system call each. */
const SLICED_BYTES_MAX = 2_000;

export class Link {
  /** How bytes are forwarded from now on: delay in milliseconds, and whether byte by byte. */
  weather = { latency: 0, sliced: false };

  #target;
  #server;
  #connections = new Set();
  #offline = 0;
  #timers = new Set();

  /** @param {number} target a port on this machine */
  constructor(target) {
    this.#target = target;
    this.#server = net.createServer({ noDelay: true }, (client) => this.#accept(client));
  }

  async listen() {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return this;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  #accept(client) {
    if (this.#offline > 0) return client.resetAndDestroy();
    const connection = new Connection(client, net.connect({ port: this.#target, host: "127.0.0.1", noDelay: true }), this);
    this.#connections.add(connection);
    connection.closed.then(() => this.#connections.delete(connection));
  }

  /** Ends every connection of now, as a peer that closes does. */
  drop() {
    for (const connection of this.#connections) connection.drop();
  }

  /** Resets every connection of now. */
  reset() {
    for (const connection of this.#connections) connection.reset();
  }

  /** Forwards nothing on the connections of now any more. After `ms` the client finds its side closed; the server is never told. */
  silence(ms) {
    for (const connection of this.#connections) connection.silence();
    const silenced = [...this.#connections];
    this.#after(ms, () => silenced.forEach((connection) => connection.hangUp()));
  }

  /** Holds back what passes on the connections of now, for `ms`. Nothing is lost. */
  stall(ms) {
    const over = pause(ms);
    for (const connection of this.#connections) connection.stall(over);
  }

  /** Refuses new connections for `ms`. */
  offline(ms) {
    this.#offline += 1;
    this.#after(ms, () => (this.#offline -= 1));
  }

  #after(ms, act) {
    const timer = { act, handle: setTimeout(() => this.#fire(timer), ms) };
    this.#timers.add(timer);
  }

  #fire(timer) {
    clearTimeout(timer.handle);
    if (this.#timers.delete(timer)) timer.act();
  }

  /** Good weather, and every fault that has an end ends now. */
  clear() {
    this.weather = { latency: 0, sliced: false };
    for (const timer of [...this.#timers]) this.#fire(timer);
  }

  close() {
    this.clear();
    this.#server.close();
    this.reset();
  }
}

/** A client's connection and the one to the server that goes with it. */
class Connection {
  #client;
  #server;
  #silent = false;
  #stalled = null;

  constructor(client, server, link) {
    this.#client = client;
    this.#server = server;
    this.#forward(client, server, link);
    this.#forward(server, client, link);
    this.closed = Promise.all([new Promise((done) => client.once("close", done)), new Promise((done) => server.once("close", done))]);
  }

  drop() {
    this.#client.destroySoon();
    this.#server.destroySoon();
  }

  reset() {
    this.#client.resetAndDestroy();
    this.#server.resetAndDestroy();
  }

  silence() {
    this.#silent = true;
  }

  hangUp() {
    this.#client.destroySoon();
  }

  stall(over) {
    this.#stalled = over;
  }

  #forward(from, to, link) {
    const held = [];
    let busy = false;
    const send = async () => {
      busy = true;
      from.pause();
      while (held.length > 0) {
        await this.#stalled;
        if (link.weather.latency > 0) await pause(link.weather.latency);
        const chunk = held.shift();
        if (this.#silent || to.destroyed) continue;
        if (!link.weather.sliced || chunk.length > SLICED_BYTES_MAX) await written(to, chunk);
        else for (let at = 0; at < chunk.length; at++) await written(to, chunk.subarray(at, at + 1));
      }
      busy = false;
      from.resume();
    };
    from.on("data", (chunk) => {
      if (this.#silent) return;
      held.push(chunk);
      if (!busy) void send();
    });
    from.on("end", () => this.#silent || to.end());
    from.on("error", ({ code }) => this.#silent || (code === "ECONNRESET" ? to.resetAndDestroy() : to.destroy()));
    // A client that goes while the line is dead cannot tell the server so.
    from.on("close", () => (this.#silent && from === this.#client ? undefined : to.destroySoon()));
  }
}

/** Resolves once `chunk` is with the kernel, or never will be. */
function written(to, chunk) {
  return new Promise((done) => {
    if (to.destroyed) done();
    else to.write(chunk, () => done());
  });
}
