/**
 * Publishes one durable event with the stock client, and repeats it until it is stored:
 *
 *     npm install socket.io-client
 *     node publisher.mjs [address] [room] [table]
 */

import { io } from "socket.io-client";
import { publishDurable } from "../../static/client/durable.js"; // in a page: "/client/durable.js"

const [address = "http://127.0.0.1:3000", room = "orders", table = "4"] = process.argv.slice(2);
const socket = io(address);
const { offset, duplicate, pending_for } = await publishDurable(socket, room, "order", { table: Number(table) });
console.log(`${duplicate ? "was stored before" : "stored"} at ${offset}, pending for ${pending_for}`);
socket.disconnect();
