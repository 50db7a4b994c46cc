/**
 * The client libraries as blocks of documents import them. A failed connection, an answer with an
 * error, and `stentor:error` end the process with status 1, since a document shows what works.
 */

import { createRequire } from "node:module";
import * as ownLibrary from "../../static/client/index.js";

const stockLibrary = createRequire(new URL("../clients/package.json", import.meta.url))("socket.io-client");

const SETTLED_MS = 15_000;

/** Time in which handlers of events that have arrived may fail. */
const HANDLERS_MS = 200;

const sockets = new Set();
let unanswered = 0;

function fail(text, error) {
  console.error(text, error.message ?? error);
  process.exit(1);
}

function watch(io) {
  return (...args) => {
    const socket = io(...args);
    if (sockets.has(socket)) return socket;
    sockets.add(socket);
    socket.once("connect", () => (socket.hasConnected = true));
    socket.on("connect_error", (error) => fail("connect_error", error));
    socket.onAny((event, error) => event === "stentor:error" && fail(event, error));
    const { emit } = socket;
    socket.emit = function (...event) {
      const ack = event.at(-1);
      if (typeof ack !== "function") return emit.apply(this, event);
      unanswered += 1;
      const answered = (...answer) => {
        unanswered -= 1;
        const error = answer.find((value) => value instanceof Error || value?.error);
        if (error) fail(`${event[0]} was answered`, error);
        return ack(...answer);
      };
      return emit.apply(this, [...event.slice(0, -1), Object.assign(answered, ack)]);
    };
    return socket;
  };
}

/** Resolves when all sockets have been connected and have all answers. */
export async function settled() {
  const deadline = Date.now() + SETTLED_MS;
  while (unanswered > 0 || [...sockets].some((socket) => !socket.hasConnected)) {
    if (Date.now() > deadline) fail("not settled", { unanswered, connected: [...sockets].map((socket) => Boolean(socket.hasConnected)) });
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await new Promise((resolve) => setTimeout(resolve, HANDLERS_MS));
}

export const stock = { ...stockLibrary, io: watch(stockLibrary.io) };
export const own = { ...ownLibrary, io: watch(ownLibrary.io) };
