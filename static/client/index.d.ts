/**
 * The types of this library: the names and generics of socket.io-client, so that a program in TypeScript switches by
 * changing one import as well. Checked against the JavaScript by `tests/clients/types.test.mjs`.
 */

/** Names of events → what their listeners take. */
export interface EventsMap {
  [event: string]: any;
}

/** Any event, with any arguments. */
export interface DefaultEventsMap {
  [event: string]: (...args: any[]) => void;
}

type Name<Events> = keyof Events & string;
type Args<Events, Event extends keyof Events> = Events[Event] extends (...args: infer A) => any ? A : any[];
type Listener<Events, Event extends keyof Events> = (...args: Args<Events, Event>) => void;
type Last<T extends any[]> = T extends [...any[], infer L] ? L : any;
type AllButLast<T extends any[]> = T extends [...infer H, any] ? H : any[];
/** What an ack callback, the last argument of an event, is called with first, behind the error that it may be called with. */
type Answer<Ack> = Ack extends (...args: infer A) => any
  ? A extends [error: Error | null, value: infer V, ...rest: any[]]
    ? V
    : A extends [infer V, ...any[]]
      ? V
      : any
  : any;

/** Events and their listeners. */
declare class Emitter<Listen extends EventsMap, Emit extends EventsMap, Reserved extends EventsMap = {}> {
  on<E extends Name<Reserved>>(event: E, listener: Listener<Reserved, E>): this;
  on<E extends Name<Listen>>(event: E, listener: Listener<Listen, E>): this;
  once<E extends Name<Reserved>>(event: E, listener: Listener<Reserved, E>): this;
  once<E extends Name<Listen>>(event: E, listener: Listener<Listen, E>): this;
  /** Takes back one listener, all of one event, or all. */
  off(event?: Name<Listen> | Name<Reserved>, listener?: (...args: any[]) => void): this;
  addEventListener: this["on"];
  removeListener: this["off"];
  removeEventListener: this["off"];
  removeAllListeners(event?: Name<Listen> | Name<Reserved>): this;
  emit<E extends Name<Emit>>(event: E, ...args: Args<Emit, E>): this;
  listeners(event: Name<Listen> | Name<Reserved>): ((...args: any[]) => void)[];
  hasListeners(event: Name<Listen> | Name<Reserved>): boolean;
}

export type DisconnectReason =
  | "io server disconnect"
  | "io client disconnect"
  | "ping timeout"
  | "transport close"
  | "transport error"
  | "parse error"
  | "forced close";

/** What happens to a socket, beside the events of the application. */
export interface SocketReservedEvents {
  connect: () => void;
  connect_error: (error: Error & { data?: any; type?: string; description?: any; context?: any }) => void;
  disconnect: (reason: DisconnectReason, details?: any) => void;
}

/** What happens to a connection. */
export interface ManagerReservedEvents {
  open: () => void;
  packet: (packet: any) => void;
  ping: () => void;
  error: (error: Error) => void;
  close: (reason: DisconnectReason, details?: any) => void;
  reconnect_attempt: (attempt: number) => void;
  reconnect: (attempt: number) => void;
  reconnect_error: (error: Error) => void;
  reconnect_failed: () => void;
}

export interface SocketOptions {
  /** Told to the server at every connect. */
  auth?: Record<string, any> | ((give: (auth: Record<string, any>) => void) => void);
  /** How often a packet is sent again when no ack comes; packets then go one by one. */
  retries?: number;
  /** Milliseconds to wait for an ack, unless `timeout()` says otherwise. */
  ackTimeout?: number;
}

export interface ManagerOptions {
  /** Of the endpoint; "/socket.io". */
  path?: string;
  /** true */
  autoConnect?: boolean;
  /** true */
  reconnection?: boolean;
  /** Infinity */
  reconnectionAttempts?: number;
  /** Milliseconds before the first attempt; 1000. */
  reconnectionDelay?: number;
  /** 5000 */
  reconnectionDelayMax?: number;
  /** Which share of a delay chance adds or takes away; 0.5. */
  randomizationFactor?: number;
  /** Milliseconds for one attempt; 20000. */
  timeout?: number | false;
  /** In the order in which to try; ["polling", "websocket"]. */
  transports?: ("polling" | "websocket" | (new (options: any) => any))[];
  /** Continues to the next transport when one cannot connect; false. */
  tryAllTransports?: boolean;
  /** Whether to move on to a better transport; true. */
  upgrade?: boolean;
  /** Begins with websocket when the last one worked; false. */
  rememberUpgrade?: boolean;
  query?: Record<string, any> | string;
  /** Polling everywhere, websocket in Node. */
  extraHeaders?: Record<string, string>;
  /** Cookies to another origin; false. */
  withCredentials?: boolean;
  forceBase64?: boolean;
  timestampRequests?: boolean;
  timestampParam?: string;
  addTrailingSlash?: boolean;
  /** Of the websocket. */
  protocols?: string | string[];
  /** By transport, over those of all. */
  transportOptions?: Record<string, object>;
  closeOnBeforeunload?: boolean;
  /** In place of JSON and attachments. */
  parser?: any;
  /** A constructor, where there is no global one. */
  WebSocket?: any;
}

export type Options = ManagerOptions & SocketOptions & {
  /** A connection of its own. */
  forceNew?: boolean;
  /** The opposite. */
  multiplex?: boolean;
};

/** A client's presence in one namespace. */
export class Socket<Listen extends EventsMap = DefaultEventsMap, Emit extends EventsMap = Listen> extends Emitter<Listen, Emit, SocketReservedEvents> {
  constructor(io: Manager<any, any>, nsp: string, opts?: SocketOptions);
  readonly io: Manager<Listen, Emit>;
  readonly nsp: string;
  id: string | undefined;
  connected: boolean;
  readonly disconnected: boolean;
  /** Whether it is connected, or will be without anyone's doing. */
  readonly active: boolean;
  /** Whether this connection continues where the last one ended: nothing was missed. */
  recovered: boolean;
  auth: SocketOptions["auth"];
  receiveBuffer: any[][];
  sendBuffer: any[];
  connect(): this;
  open(): this;
  /** Leaves the namespace; the last socket to leave ends the connection. */
  disconnect(): this;
  close(): this;
  send(...args: any[]): this;
  /** Resolves with the first value of the answer; rejected when the time is up, or the connection lost. */
  emitWithAck<E extends Name<Emit>>(event: E, ...args: AllButLast<Args<Emit, E>>): Promise<Answer<Last<Args<Emit, E>>>>;
  compress(compress: boolean): this;
  /** The next packet may be lost: it is dropped when it cannot be sent at once. */
  readonly volatile: this;
  /** Milliseconds after which the ack of the next packet is called with an error. */
  timeout(timeout: number): Socket<Listen, WithError<Emit>>;
  onAny(listener: (...args: any[]) => void): this;
  prependAny(listener: (...args: any[]) => void): this;
  offAny(listener?: (...args: any[]) => void): this;
  listenersAny(): ((...args: any[]) => void)[];
  onAnyOutgoing(listener: (...args: any[]) => void): this;
  prependAnyOutgoing(listener: (...args: any[]) => void): this;
  offAnyOutgoing(listener?: (...args: any[]) => void): this;
  listenersAnyOutgoing(): ((...args: any[]) => void)[];
}

/** The same events, whose ack callbacks are called with an error first. */
type WithError<Events extends EventsMap> = {
  [E in keyof Events]: Events[E] extends (...args: infer A) => infer S
    ? any[] extends A
      ? Events[E]
      : A extends [...infer H, (...answer: infer B) => infer R]
        ? (...args: [...H, (error: Error | null, ...answer: B) => R]) => S
        : Events[E]
    : Events[E];
};

/** One connection to one server, shared by the sockets of its namespaces. */
export class Manager<Listen extends EventsMap = DefaultEventsMap, Emit extends EventsMap = Listen> extends Emitter<{}, {}, ManagerReservedEvents> {
  constructor(options?: Options);
  constructor(uri?: string, options?: Options);
  readonly uri: string | undefined;
  /** Read again at every attempt: what is changed here counts from the next on. */
  opts: Options;
  nsps: Record<string, Socket>;
  engine: any;
  reconnection(): boolean;
  reconnection(value: boolean): this;
  reconnectionAttempts(): number;
  reconnectionAttempts(value: number): this;
  reconnectionDelay(): number;
  reconnectionDelay(value: number): this;
  reconnectionDelayMax(): number;
  reconnectionDelayMax(value: number): this;
  randomizationFactor(): number;
  randomizationFactor(value: number): this;
  timeout(): number | false;
  timeout(value: number | false): this;
  open(fn?: (error?: Error) => void): this;
  connect(fn?: (error?: Error) => void): this;
  /** The socket of a namespace, made at its first use. */
  socket<L extends EventsMap = Listen, E extends EventsMap = Emit>(nsp: string, options?: SocketOptions): Socket<L, E>;
}

interface Lookup {
  /** A socket of the namespace that the path of the address names; without one, the server of the page. */
  <L extends EventsMap = DefaultEventsMap, E extends EventsMap = L>(options?: Options): Socket<L, E>;
  <L extends EventsMap = DefaultEventsMap, E extends EventsMap = L>(uri: string | undefined, options?: Options): Socket<L, E>;
}

export const io: Lookup & { io: Lookup; connect: Lookup; Manager: typeof Manager; Socket: typeof Socket };
export { io as connect, io as default };

/** The version of the protocol. */
export const protocol: 5;

/** Transports, to be named in `transports`. */
export const Fetch: new (options: any) => any;
export const WebSocket: new (options: any) => any;
