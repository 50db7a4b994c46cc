/** Replaces `harness.mjs` in a page, which is served by the tested server. */

import { io as stock } from "socket.io-client";
import { io as ours } from "/repository/static/client/index.js";

export * from "/repository/tests/clients/actions.mjs";

const server = new URLSearchParams(location.search).get("server");

export const CLIENTS = { "socket.io-client": stock, "static/client": ours };

export const TOURS = { [server]: null };

export const startTour = async () => ({ url: location.origin, stop() {} });

export const startQueueHub = startTour;

/**
 * True if a client that starts with the first of `transports` can set headers: a page's websocket
 * cannot.
 */
export const setsHeaders = ([first]) => first !== "websocket";
