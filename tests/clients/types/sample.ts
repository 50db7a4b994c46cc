/** A TypeScript program that uses the library; lines that must not compile are marked. */

import connect, { io, Manager, type Options, Socket } from "stentor-client";

interface Heard {
  news: (text: string, n: number) => void;
}
interface Said {
  say: (text: string) => void;
  ask: (question: string, ack: (answer: number) => void) => void;
}

const options: Options = { transports: ["websocket"], auth: (give) => give({ token: "t" }), reconnectionDelay: 100, forceNew: true };
const socket: Socket<Heard, Said> = io("http://127.0.0.1:3000/chat", options);

socket.on("connect", () => console.log(socket.id?.length, socket.recovered));
socket.on("connect_error", (error) => console.log(error.message, error.data));
socket.on("disconnect", (reason, details) => console.log(reason === "ping timeout", details));
socket.once("news", (text, n) => console.log(text.length + n));
socket.volatile.compress(false).emit("say", "hello");
socket.emit("ask", "how many?", (answer) => answer.toFixed());
socket.timeout(5_000).emit("ask", "how many?", (error, answer) => console.log(error?.message, answer.toFixed()));
const answer: Promise<number> = socket.emitWithAck("ask", "how many?");
const late: Promise<number> = socket.timeout(100).emitWithAck("ask", "how many?");
socket.io.on("reconnect_attempt", (attempt) => attempt.toFixed());
socket.io.reconnection(false).engine.close();
const delay: number = socket.io.reconnectionDelay();

// @ts-expect-error unknown event
socket.emit("shout", "hello");
// @ts-expect-error number instead of text
socket.emit("say", 1);
// @ts-expect-error unknown option
io({ transport: "websocket" });
// @ts-expect-error unknown transport
io({ transports: ["pigeon"] });

const plain = connect();
plain.on("anything", (a, b) => console.log(a, b));
plain.emit("anything", 1, { two: [3] });
plain.onAny((event, ...args) => console.log(event, args)).offAny();
plain.timeout(5_000).emitWithAck("anything", 1).then((value) => value.whatever);
const manager = new Manager("http://127.0.0.1:3000", { autoConnect: false });
const other: Socket = manager.socket("/other");

console.log(answer, late, delay, other);
