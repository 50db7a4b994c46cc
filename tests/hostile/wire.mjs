/**
 * A minimal websocket client and HTTP request for attackers: frames are written without validation,
 * reading can stop, and only pongs are sent by themselves, on request.
 */

import http from "node:http";
import net from "node:net";

/**
 * Source address of attackers. Other clients use 127.0.0.1, so limits per address tell them apart.
 */
export const ATTACKER = "127.0.0.2";

/** Default time limit of one response, in milliseconds. */
const ANSWER_MS = 20_000;

/**
 * Interval between two pongs of a client that does not decode its input; a ping times out after 20
 * seconds.
 */
const PONG_EVERY_MS = 10_000;

/** Bytes of a batch in `pour`. */
const BATCH_BYTES = 256 << 10;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A masked text frame. The masking key is zero, so the payload is sent unchanged. */
export function frame(text) {
  const payload = Buffer.from(text);
  const head = frameHead(payload.length);
  return Buffer.concat([head, payload]);
}

/** Header of a masked text frame of `length` bytes. */
export function frameHead(length) {
  if (length < 126) return Buffer.from([0x81, 0x80 | length, 0, 0, 0, 0]);
  if (length < 65_536) return Buffer.from([0x81, 0xfe, length >> 8, length & 0xff, 0, 0, 0, 0]);
  const head = Buffer.alloc(14);
  head[0] = 0x81;
  head[1] = 0xff;
  head.writeBigUInt64BE(BigInt(length), 2);
  return head;
}

/** Open connections of this process, which can thus exit without close frames. */
const open = new Set();

export function leaveAll() {
  for (const socket of open) socket.destroy();
}

/** A TCP connection; resolves once it is established. */
export function dial(port, { from = ATTACKER } = {}) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: "127.0.0.1", port, localAddress: from, noDelay: true });
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    socket.once("connect", () => {
      socket.off("error", reject);
      socket.on("error", () => {});
      resolve(socket);
    });
    socket.once("error", reject);
  });
}

/** A Socket.IO client over one websocket, connected to the namespace "/". */
export class Client {
  isClosed = false;
  /** Public id, and the private one if the server has recovery. */
  sid = null;
  pid = null;
  /** The newest offset received. */
  offset = null;
  bytesRead = 0;
  onPacket = () => {};

  #socket;
  #pending = Buffer.alloc(0);
  #waiting = [];
  #ackId = 0;

  /** Opens a websocket and connects. `auth` is added to the CONNECT data. */
  static async open(port, { from = ATTACKER, auth = {}, headers = {}, connects = true, ms = ANSWER_MS } = {}) {
    const client = new Client();
    await client.#handshake(port, from, headers, ms);
    if (connects) await client.connect(auth, ms);
    return client;
  }

  /** Sends CONNECT and waits for the reply. Every client requests recovery. */
  async connect(auth = {}, ms = ANSWER_MS) {
    const answered = this.waitFor((packet) => packet.startsWith("40{") || packet.startsWith("44{"), ms);
    this.send(`40${JSON.stringify({ recovery: true, ...auth })}`);
    const reply = await answered;
    if (reply.startsWith("44")) throw new Error(`refused: ${reply}`);
    const { sid, pid } = JSON.parse(reply.slice(2));
    [this.sid, this.pid] = [sid, pid ?? null];
  }

  async #handshake(port, from, headers, ms) {
    this.#socket = await dial(port, { from });
    this.#socket.on("close", () => this.#close());
    const lines = Object.entries({ Host: `127.0.0.1:${port}`, "User-Agent": "node-XMLHttpRequest", ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
    this.#socket.write(
      "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${lines.join("")}\r\n`,
    );
    const head = await this.#head(ms);
    this.status = Number(head.split(" ", 2)[1]);
    if (this.status !== 101) {
      this.end();
      throw Object.assign(new Error(`handshake answered ${head.split("\r\n", 1)[0]}`), { status: this.status });
    }
    this.#socket.on("data", (chunk) => this.#read(chunk));
    const opened = this.waitFor((packet) => packet.startsWith("0{"), ms);
    this.#read(Buffer.alloc(0));
    await opened;
  }

  #head(ms) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => fail("no answer to the handshake"), ms);
      const fail = (what) => (clearTimeout(timer), this.end(), reject(new Error(what)));
      const onClose = () => fail("closed during the handshake");
      const onData = (chunk) => {
        this.#pending = Buffer.concat([this.#pending, chunk]);
        const end = this.#pending.indexOf("\r\n\r\n");
        if (end < 0) return;
        clearTimeout(timer);
        this.#socket.off("data", onData).off("close", onClose);
        const head = this.#pending.subarray(0, end).toString("latin1");
        this.#pending = this.#pending.subarray(end + 4);
        resolve(head);
      };
      this.#socket.on("data", onData).once("close", onClose);
    });
  }

  #read(chunk) {
    this.bytesRead += chunk.length;
    this.#pending = this.#pending.length > 0 ? Buffer.concat([this.#pending, chunk]) : chunk;
    for (;;) {
      const data = this.#pending;
      if (data.length < 2) return;
      let length = data[1] & 0x7f;
      let start = 2;
      if (length === 126) {
        if (data.length < 4) return;
        [length, start] = [data.readUInt16BE(2), 4];
      } else if (length === 127) {
        if (data.length < 10) return;
        [length, start] = [Number(data.readBigUInt64BE(2)), 10];
      }
      if (data.length < start + length) return;
      this.#pending = data.subarray(start + length);
      if ((data[0] & 0x0f) === 1) this.#deliver(data.subarray(start, start + length).toString());
    }
  }

  #deliver(packet) {
    if (packet === "2") this.send("3");
    if (packet.startsWith("42[")) {
      const token = /,"([^"]*)"\]$/.exec(packet);
      if (token) this.offset = token[1];
    }
    this.#waiting = this.#waiting.filter((waiter) => !waiter(packet));
    this.onPacket(packet);
  }

  /** The next packet for which `matches` is true. */
  waitFor(matches, ms = ANSWER_MS) {
    return new Promise((resolve, reject) => {
      if (this.isClosed) return reject(new Error("closed"));
      const timer = setTimeout(() => settle(null, new Error(`no answer within ${ms} ms`)), ms);
      const waiter = (packet) => {
        if (packet !== null && !matches(packet)) return false;
        clearTimeout(timer);
        if (packet === null) reject(new Error("closed"));
        else resolve(packet);
        return true;
      };
      const settle = (_, error) => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        reject(error);
      };
      this.#waiting.push(waiter);
    });
  }

  /** Emits; gives the arguments of the ack. */
  async ask(name, ...args) {
    const id = ++this.#ackId;
    this.send(`42${id}${JSON.stringify([name, ...args])}`);
    const reply = await this.waitFor((packet) => packet.startsWith(`43${id}[`));
    const [answer] = JSON.parse(reply.slice(2 + String(id).length));
    if (typeof answer?.offset === "string") this.offset = answer.offset;
    return answer;
  }

  send(text) {
    return this.write(frame(text));
  }

  write(bytes) {
    return !this.isClosed && this.#socket.write(bytes);
  }

  /**
   * Writes all texts as fast as the server reads; ends early if the connection closes or after
   * `ms`. Gives the number of texts written.
   */
  async pour(texts, ms = 60_000) {
    const end = performance.now() + ms;
    let batch = [];
    let size = 0;
    let count = 0;
    const flush = async () => {
      const isFull = !this.write(Buffer.concat(batch, size));
      [batch, size] = [[], 0];
      while (isFull && !this.isClosed && this.#socket.writableNeedDrain && performance.now() < end) await this.#drained();
    };
    for (const text of texts) {
      const bytes = frame(text);
      batch.push(bytes);
      size += bytes.length;
      count += 1;
      if (size >= BATCH_BYTES) await flush();
      if (this.isClosed || performance.now() >= end) return count;
    }
    if (size > 0) await flush();
    return count;
  }

  #drained() {
    return new Promise((resolve) => {
      const timer = setTimeout(done, 200);
      const socket = this.#socket;
      function done() {
        clearTimeout(timer);
        socket.off("drain", done).off("close", done);
        resolve();
      }
      socket.once("drain", done).once("close", done);
    });
  }

  /** Reads and drops all bytes, uncounted and undecoded. */
  discard() {
    this.#socket.removeAllListeners("data").on("data", () => {}).resume();
  }

  /** Counts all further bytes without decoding; pongs are sent without a ping. */
  countOnly() {
    const pongs = setInterval(() => this.send("3"), PONG_EVERY_MS);
    this.#socket.once("close", () => clearInterval(pongs));
    this.#socket.removeAllListeners("data").on("data", (chunk) => (this.bytesRead += chunk.length));
  }

  /** Stops reading from the kernel. */
  stopReading() {
    this.#socket.removeAllListeners("data").pause();
  }

  /** Closes without a close frame. */
  end() {
    this.#socket.destroy();
    this.#close();
  }

  #close() {
    if (this.isClosed) return;
    this.isClosed = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const waiter of waiting) waiter(null);
  }
}

/**
 * One request over its own connection. Gives `{ status, body }`; status 0 means no response in
 * time.
 */
export function request(port, path, { method = "GET", headers = {}, body, from = "127.0.0.1", ms = ANSWER_MS } = {}) {
  return new Promise((resolve) => {
    const options = { host: "127.0.0.1", port, localAddress: from, path, method, headers, agent: false, timeout: ms };
    const request = http.request(options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part) => (text += part));
      response.on("end", () => finish({ status: response.statusCode, body: text }));
    });
    const timer = setTimeout(() => finish({ status: 0, body: "" }), ms);
    const finish = (outcome) => (clearTimeout(timer), resolve(outcome), request.destroy());
    request.on("error", () => finish({ status: 0, body: "" }));
    request.end(body);
  });
}

/** Calls `work(index)` for each index below `count`, at most `width` at a time. */
export async function each(count, width, work) {
  let next = 0;
  const run = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(width, count) }, run));
}
