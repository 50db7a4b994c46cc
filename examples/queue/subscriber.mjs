/**
 * A durable subscriber with the stock client, in Node:
 *
 *     npm install socket.io-client
 *     node subscriber.mjs [address] [name] [room]
 *
 * Stop it, publish, and start it again: what was published meanwhile arrives first.
 */

import { io } from "socket.io-client";

const [address = "http://127.0.0.1:3000", name = "kitchen", room = "orders"] = process.argv.slice(2);
const socket = io(address, { auth: { subscriber: name } });

// The subscription outlives the connection; joining again changes nothing.
socket.on("connect", () => {
  socket.timeout(5000).emit("join", room, { durable: true }, (lost, reply) => {
    if (reply?.error) console.error(`join: ${reply.error.message}`);
  });
});
socket.on("stentor:attached", ({ status, pending, gaps }) => console.log(`${status}: ${pending} pending`, ...gaps));
socket.on("stentor:gap", (gap) => console.log("not received:", gap));
socket.on("stentor:evicted", () => console.log(`another connection is ${name} now`));
socket.on("connect_error", (error) => console.error(error.message));

socket.on("order", async (order, meta, ack) => {
  try {
    await cook(order);
    ack?.(); // it leaves the queue; a plain event of this name has no ack
  } catch (error) {
    if (error instanceof TypeError) ack?.({ term: true, reason: error.message }); // a dead letter
    else ack?.({ nak: true, delay: 5000 }); // again in 5 s; without delay after the back-off
  }
});

async function cook(order) {
  console.log("cooking", order);
}
