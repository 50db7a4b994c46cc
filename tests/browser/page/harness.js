/** What `harness.mjs` is in Node: here the page comes from the server that is tested, which the test outside has started. */

import { io as stock } from "socket.io-client";
import { io as ours } from "/repository/static/client/index.js";

export * from "/repository/tests/clients/talk.mjs";

const server = new URLSearchParams(location.search).get("server");

export const CLIENTS = { "socket.io-client": stock, "static/client": ours };

export const TOURS = { [server]: null };

export const startTour = async () => ({ url: location.origin, stop() {} });

/** Whether a client that begins with the first of `transports` can set headers: a page's websocket cannot. */
export const setsHeaders = ([first]) => first !== "websocket";
