/**
 * An unreliable network: one listener in front of one server, for one client, so that a fault
 * affects only that client. It forwards bytes and knows no protocol.
 *
 * `drop` ends connections (FIN), `reset` resets them (RST), `silence` discards all bytes and keeps
 * both ends open (a phone in a tunnel), `stall` delays bytes for a while; `offline` refuses new
 * connections. `weather` sets delay and slicing of the other connections. A server that is down
 * looks as without a proxy: the connection breaks.
 */

import { once } from "node:events";
import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";

/** Larger chunks are not sliced: each byte costs a system call. */
const SLICED_BYTES_MAX = 2_000;

export class Link {
  /** Sets how bytes are forwarded from now on: delay in milliseconds, and whether byte by byte. */
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

  /** Ends all present connections by a FIN. */
  drop() {
    for (const connection of this.#connections) connection.drop();
  }

  /** Resets all present connections. */
  reset() {
    for (const connection of this.#connections) connection.reset();
  }

  /**
   * Stops forwarding on all present connections. After `ms` the client's side is closed; the server
   * is not notified.
   */
  silence(ms) {
    for (const connection of this.#connections) connection.silence();
    const silenced = [...this.#connections];
    this.#after(ms, () => silenced.forEach((connection) => connection.hangUp()));
  }

  /** Delays all bytes of the present connections for `ms`. Nothing is lost. */
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

  /** Ends all faults and restores normal forwarding. */
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

/** The connection of a client and its connection to the server. */
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
    // A client that disconnects while the connection is dead cannot notify the server.
    from.on("close", () => (this.#silent && from === this.#client ? undefined : to.destroySoon()));
  }
}

/** Resolves once `chunk` is passed to the kernel, or never will be. */
function written(to, chunk) {
  return new Promise((done) => {
    if (to.destroyed) done();
    else to.write(chunk, () => done());
  });
}
