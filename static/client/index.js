/**
 * A client for Socket.IO servers with the names of socket.io-client 4.8: a page switches by
 * changing one import.
 *
 *     import { io } from "/client/index.js";
 *     const socket = io();
 *     socket.on("news", (text) => console.log(text));
 *     const answer = await socket.emitWithAck("question", 42);
 */

import { Manager } from "./manager.js";
import { Socket } from "./socket.js";
import { parseUrl } from "./url.js";

/** @typedef {import("./manager.js").ManagerOptions & import("./socket.js").SocketOptions & { forceNew?: boolean, multiplex?: boolean }} Options */

/** @type {Map<string, Manager>} one for each server and path, shared by all namespaces */
const managers = new Map();

/**
 * A socket of the namespace in the path of `uri`. Namespaces of one server share a connection.
 * @param {string | Options} [uri] default: the server of the page
 * @param {Options} [opts]
 * @returns {Socket}
 */
function lookup(uri, opts) {
  if (typeof uri === "object") [uri, opts] = [undefined, uri];
  const { namespace, id } = addressOf(uri);
  const key = id + (opts?.path || "/socket.io");
  let manager = managers.get(key);
  if (!manager || opts?.forceNew || opts?.multiplex === false || namespace in manager.nsps) {
    const first = !manager;
    manager = new Manager(uri, opts);
    if (first && !opts?.forceNew && opts?.multiplex !== false) managers.set(key, manager);
  }
  return manager.socket(namespace, opts);
}

/** @param {string} [uri] */
function addressOf(uri) {
  try {
    return parseUrl(uri);
  } catch {
    // The connection reports the error as a connect_error.
    return { namespace: "/", id: `invalid:${uri}` };
  }
}

export const io = Object.assign(lookup, { io: lookup, connect: lookup, Manager, Socket });

export { io as connect, io as default, Manager, Socket };
export { protocol } from "./parsers/socketio.js";
export { Polling as Fetch } from "./transports/polling.js";
export { WebSocketTransport as WebSocket } from "./transports/websocket.js";
