/** Durable events over a socket of Socket.IO. Documentation is in `durable.d.ts`. */

/** Characters of the 512 newest handled offsets, with a space after each. */
const REMEMBERED = 512 * 18;

/** Errors after which a repetition may succeed. */
const PASSING = ["rate_limited", "overloaded", "unavailable", "indeterminate", "disconnected"];

/** @type {typeof import("./durable.js").subscriber} */
export function subscriber(socket, name, { signature, ackWait = 30_000, storage = pageStorage(), onError = console.error } = {}) {
  const { auth, nsp } = /** @type {any} */ (socket);
  const named = (/** @type {any} */ auth) => ({ ...auth, subscriber: name, ...(signature && { signature }) });
  socket.auth = typeof auth === "function" ? (give) => auth((/** @type {any} */ auth) => give(named(auth))) : named(auth);
  if (socket.connected && auth?.subscriber !== name) socket.disconnect().connect();

  const key = `stentor:${nsp}:${name}`;
  let memory = "";
  const stored = async () => {
    try {
      return (await storage?.getItem(key)) ?? "";
    } catch {
      return "";
    }
  };
  // A list of offsets, not the highest: events that failed, and those of a subscription that begins
  // in the past, arrive after higher ones.
  const remember = async (/** @type {string} */ offset) => {
    memory = `${memory}${offset} `.slice(-REMEMBERED);
    try {
      await storage?.setItem(key, `${await stored()}${offset} `.slice(-REMEMBERED));
    } catch {} // denied or full
  };

  /** Offsets of received events whose handlers have not ended. */
  const open = new Set();
  let last = Promise.resolve();
  return {
    on(event, handler) {
      socket.on(event, (...args) => {
        const [meta, ack] = args.splice(-2);
        if (meta?.offset?.length !== 17 || typeof ack !== "function") return;
        const { id } = socket;
        const { offset } = meta;
        open.add(offset);
        const handle = async () => {
          // With its connection lost, the event is sent again, maybe to another tab.
          if (id !== socket.id) return;
          if (memory.includes(offset) || (await stored()).includes(offset)) return ack();
          // The server's time counts for the lowest offset.
          const progress = () => socket.connected && socket.volatile.emit("in_progress", [...open, offset].sort()[0]);
          const timer = setInterval(progress, ackWait / 3);
          try {
            await /** @type {any} */ (handler)(...args, meta);
          } catch (/** @type {any} */ error) {
            ack(error?.term ? { term: true, reason: String(error.message) } : { nak: true, ...(error?.delay >= 0 && { delay: error.delay }) });
            return onError(error, meta);
          } finally {
            clearInterval(timer);
          }
          await remember(offset);
          ack();
        };
        last = last.then(handle).catch(console.error).finally(() => open.delete(offset));
      });
      return this;
    },
  };
}

/** Missing in Node; a page may be denied it. */
function pageStorage() {
  try {
    return globalThis.localStorage;
  } catch {}
}

/** @type {typeof import("./durable.js").publishDurable} */
export async function publishDurable(socket, target, event, ...args) {
  /** @type {any} */
  const given = typeof target === "string" ? { room: target } : Array.isArray(target) ? { rooms: target } : target;
  const { signal, timeout = 10_000, dedup_id = randomId(), ...options } = given;
  Object.assign(options, { durable: true, dedup_id });
  signal?.throwIfAborted();
  let abort = () => {};
  const aborted = new Promise((_, reject) => signal?.addEventListener("abort", (abort = () => reject(signal.reason))));
  const unlessAborted = (/** @type {(resolve: (value?: any) => void) => void} */ start) => Promise.race([aborted, new Promise(start)]);
  try {
    for (let pause = 500; ; pause = Math.min(2 * pause, 30_000)) {
      if (!socket.connected) await unlessAborted((resolve) => socket.once("connect", resolve));
      /** @type {any} */
      const answer = await unlessAborted((resolve) => {
        const ack = (/** @type {any} */ lost, /** @type {any} */ answer) => resolve(lost ? { error: { code: "indeterminate" } } : answer);
        socket.timeout(timeout).emit("publish", options, event, ...args, ack);
      });
      if (answer?.pending_for >= 0) return answer;
      const { code, message } = answer?.error ?? { message: `expected the receipt of a stored event, got ${JSON.stringify(answer)}` };
      if (!PASSING.includes(code)) throw Object.assign(new Error(message), { code });
      await unlessAborted((resolve) => setTimeout(resolve, pause * (0.5 + Math.random() / 2)));
    }
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/** crypto.randomUUID() is missing in pages without TLS. */
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
}
