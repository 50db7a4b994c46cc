/** A TypeScript program with durable events, of both clients; marked lines must not compile. */

import { io as stock } from "socket.io-client";
import { io } from "stentor-client";
import { type EventMeta, publishDurable, type Receipt, subscriber } from "stentor-client/durable";

interface Orders {
  order: (order: { table: number }, at: string) => void;
  closed: () => void;
}

const ours = io("http://127.0.0.1:3000", { auth: { token: "t" } });
const theirs = stock("http://127.0.0.1:3000", { auth: (give) => give({ token: "t" }) });

const kitchen = subscriber<Orders>(ours, "kitchen")
  .on("order", async ({ table }, at, meta) => console.log(table.toFixed(), at.length, meta.offset, meta.room, meta.redelivered === true))
  .on("order", () => 1)
  .on("closed", (meta: EventMeta) => meta.offset);
subscriber(theirs, "bar", { signature: "s", ackWait: 60_000, storage: localStorage, onError: (error, meta) => console.error(error, meta.offset) })
  .on("anything", (order, meta) => console.log(order.table, meta.offset))
  .on("nothing", (meta) => console.log(meta.offset));
subscriber(ours, "server", { storage: { getItem: async () => null, setItem: async () => {} } });

const receipt: Promise<Receipt> = publishDurable(ours, "orders", "order", { table: 4 });
publishDurable(theirs, ["orders", "audit"], "order").then(({ offset, duplicate, pending_for }) => offset.length + Number(duplicate) + pending_for);
publishDurable(ours, { room: "orders", dedup_id: "order-7", expires_in: 60_000, timeout: 1_000, signal: AbortSignal.timeout(9) }, "order");
publishDurable(ours, { rooms: ["orders"] }, "order");

// @ts-expect-error unknown event
kitchen.on("bill", () => {});
// @ts-expect-error text instead of an object
kitchen.on("order", (order: string) => order);
// @ts-expect-error no room
publishDurable(ours, { dedup_id: "order-7" }, "order");
// @ts-expect-error unknown option
publishDurable(ours, { room: "orders", dedup: "order-7" }, "order");
// @ts-expect-error unknown option
subscriber(ours, "kitchen", { ack_wait: 60_000 });
// @ts-expect-error no socket
subscriber("kitchen");

console.log(receipt);
