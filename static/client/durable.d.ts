/** Types of `durable.js`. `docs/queue.md` describes the queue. */

import type { DefaultEventsMap, EventsMap } from "./index.js";

/** The part of a socket that is used: of this library, or of socket.io-client 4.6 and later. */
export interface DurableSocket {
  id?: string | undefined;
  connected: boolean;
  auth?: Record<string, any> | ((give: (auth: Record<string, any>) => void) => void);
  on(event: any, listener: (...args: any[]) => void): any;
  once(event: any, listener: (...args: any[]) => void): any;
  connect(): any;
  disconnect(): any;
  timeout(timeout: number): any;
  volatile: any;
}

/** Information about an event, the last argument of its handler. */
export interface EventMeta {
  /** Position of the event in the queue. Tokens of one queue sort by age. */
  offset: string;
  /** The room through which this subscriber receives the event. */
  room: string;
  /** The event may have been sent to this subscriber before. */
  redelivered?: true;
}

/** Properties of an error, thrown by a handler, that decide on the event. */
export interface HandlerError {
  /** True: the event is given up. It becomes a dead letter, with the message as the reason. */
  term?: boolean;
  /** Milliseconds until the event is sent again, instead of the server's back-off. */
  delay?: number;
}

/** A store of texts such as `localStorage`; its methods may return promises. */
export interface TextStorage {
  getItem(key: string): string | null | undefined | Promise<string | null | undefined>;
  setItem(key: string, value: string): unknown;
}

export interface SubscriberOptions {
  /** Signature of the name, where the server requires one. */
  signature?: string;
  /**
   * Where the offsets of handled events are kept; default `localStorage`, or memory where there is
   * none.
   */
  storage?: TextStorage;
  /** The server's setting `ack_wait` in milliseconds; default 30000. */
  ackWait?: number;
  /** Called with what a handler threw; default `console.error`. */
  onError?: (error: unknown, meta: EventMeta) => void;
}

/** Arguments of an event and the information about it; any arguments if none are declared. */
type Args<Listener> = Listener extends (...args: infer A) => any ? (any[] extends A ? any[] : [...A, meta: EventMeta]) : any[];

/** Handlers of the durable events of one subscriber. */
export interface Subscriber<Events extends EventsMap = DefaultEventsMap> {
  /**
   * Registers the handler of an event, one for each name. Handlers of all events run one at a time,
   * in the order in which the events arrive.
   *
   * The event is acknowledged when the handler has resolved. If it throws, the event is sent again
   * after the server's back-off; see `HandlerError` for other outcomes. Events that it handled
   * before (the newest 512) are acknowledged without a call. An event whose name has no handler is
   * not acknowledged and ends as a dead letter.
   */
  on<E extends keyof Events & string>(event: E, handler: (...args: Args<Events[E]>) => unknown): this;
}

/**
 * Makes a socket the connection of a named subscriber: puts the name into the credentials of its
 * CONNECT. Called in the turn that creates the socket, it misses nothing; a socket that is
 * connected under no name, or another one, connects again.
 */
export function subscriber<Events extends EventsMap = DefaultEventsMap>(socket: DurableSocket, name: string, options?: SubscriberOptions): Subscriber<Events>;

export interface PublishOptions {
  /**
   * Id under which the event is stored once, 1 to 128 bytes; default a random one. An id of the
   * application's, such as that of an order, also prevents a second event after a reload.
   */
  dedup_id?: string;
  /** Milliseconds after which the event is no longer delivered. */
  expires_in?: number;
  /** Milliseconds to wait for the answer to one attempt; default 10000. */
  timeout?: number;
  /**
   * Ends the attempts. It is then not known whether the event was stored. Attempts never end for an
   * event that is larger than the server's `max_payload`, which ends the connection each time.
   */
  signal?: AbortSignal;
}

/** The answer to a publisher. */
export interface Receipt {
  level: "stored";
  /** Position of the event in the queue. */
  offset: string;
  /** The `dedup_id` was stored before; `offset` is that of the first event. */
  duplicate: boolean;
  /** Number of subscribers that the event was pending for when it was stored. */
  pending_for: number;
}

/**
 * Publishes an event until it is stored: after a lost answer, a lost connection and errors that
 * pass, again with the same `dedup_id`, at intervals of 0.5 to 30 s.
 *
 * Rejects with an error with the server's `code` (`bad_request`, `conflict`, `too_large`, …) if a
 * repetition would not succeed, and with the signal's reason. Events that are published without
 * awaiting the one before may be stored in another order.
 */
export function publishDurable(
  socket: DurableSocket,
  target: string | string[] | (({ room: string } | { rooms: string[] }) & PublishOptions),
  event: string,
  ...args: any[]
): Promise<Receipt>;
