/**
 * Types of this library, with the names and generics of socket.io-client: a TypeScript program also
 * switches by changing one import. `tests/clients/package.test.mjs` checks them against the
 * JavaScript.
 */

/** Event names and the parameters of their listeners. */
export interface EventsMap {
  [event: string]: any;
}

/** Any event with any arguments. */
export interface DefaultEventsMap {
  [event: string]: (...args: any[]) => void;
}

type Name<Events> = keyof Events & string;
type Args<Events, Event extends keyof Events> = Events[Event] extends (...args: infer A) => any ? A : any[];
type Listener<Events, Event extends keyof Events> = (...args: Args<Events, Event>) => void;
type Last<T extends any[]> = T extends [...any[], infer L] ? L : any;
type AllButLast<T extends any[]> = T extends [...infer H, any] ? H : any[];
/** The first argument of an ack callback, after the error if it is called with one. */
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
  /** Removes one listener, all of one event, or all. */
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

/** Reserved events of a socket, in addition to those of the application. */
export interface SocketReservedEvents {
  connect: () => void;
  connect_error: (error: Error & { data?: any; type?: string; description?: any; context?: any }) => void;
  disconnect: (reason: DisconnectReason, details?: any) => void;
}

/** Events of a connection. */
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
  /** Credentials sent with every CONNECT. */
  auth?: Record<string, any> | ((give: (auth: Record<string, any>) => void) => void);
  /**
   * Maximum number of times a packet is sent again without ack; packets are then sent one by one.
   */
  retries?: number;
  /** Milliseconds to wait for an ack, unless `timeout()` is used. */
  ackTimeout?: number;
}

export interface ManagerOptions {
  /** Path of the endpoint; default "/socket.io". */
  path?: string;
  /** Default true. */
  autoConnect?: boolean;
  /** Default true. */
  reconnection?: boolean;
  /** Default Infinity. */
  reconnectionAttempts?: number;
  /** Milliseconds before the first attempt; default 1000. */
  reconnectionDelay?: number;
  /** Milliseconds; default 5000. */
  reconnectionDelayMax?: number;
  /** Share of a delay that is added or subtracted at random; default 0.5. */
  randomizationFactor?: number;
  /** Milliseconds for one attempt; default 20000. */
  timeout?: number | false;
  /** Transports in the order of attempts; default ["polling", "websocket"]. */
  transports?: ("polling" | "websocket" | (new (options: any) => any))[];
  /** Tries the next transport when one cannot connect; default false. */
  tryAllTransports?: boolean;
  /** Switches to a better transport; default true. */
  upgrade?: boolean;
  /** Starts with websocket when the last one worked; default false. */
  rememberUpgrade?: boolean;
  query?: Record<string, any> | string;
  /** Polling everywhere, websocket only in Node. */
  extraHeaders?: Record<string, string>;
  /** Sends cookies to another origin; default false. */
  withCredentials?: boolean;
  forceBase64?: boolean;
  timestampRequests?: boolean;
  timestampParam?: string;
  addTrailingSlash?: boolean;
  /** Subprotocols of the websocket. */
  protocols?: string | string[];
  /** Options by transport, which override the common ones. */
  transportOptions?: Record<string, object>;
  closeOnBeforeunload?: boolean;
  /** Parser instead of JSON with attachments. */
  parser?: any;
  /** A constructor, where no global one exists. */
  WebSocket?: any;
}

export type Options = ManagerOptions & SocketOptions & {
  /** Uses a connection of its own. */
  forceNew?: boolean;
  /** The opposite of `forceNew`. */
  multiplex?: boolean;
};

/** A client's socket in one namespace. */
export class Socket<Listen extends EventsMap = DefaultEventsMap, Emit extends EventsMap = Listen> extends Emitter<Listen, Emit, SocketReservedEvents> {
  constructor(io: Manager<any, any>, nsp: string, opts?: SocketOptions);
  readonly io: Manager<Listen, Emit>;
  readonly nsp: string;
  id: string | undefined;
  connected: boolean;
  readonly disconnected: boolean;
  /** True if it is connected or will connect by itself. */
  readonly active: boolean;
  /** True if the session was recovered: no event was missed. */
  recovered: boolean;
  auth: SocketOptions["auth"];
  receiveBuffer: any[][];
  sendBuffer: any[];
  connect(): this;
  open(): this;
  /** Leaves the namespace; the connection closes with its last socket. */
  disconnect(): this;
  close(): this;
  send(...args: any[]): this;
  /**
   * Resolves with the first value of the ack; rejects at the timeout or when the connection is
   * lost.
   */
  emitWithAck<E extends Name<Emit>>(event: E, ...args: AllButLast<Args<Emit, E>>): Promise<Answer<Last<Args<Emit, E>>>>;
  compress(compress: boolean): this;
  /** Drops the next packet if it cannot be sent immediately. */
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

/** The same events with ack callbacks that are called with an error first. */
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
  /** Read at every attempt, so changes apply to the next one. */
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
  /** The socket of a namespace, created at its first use. */
  socket<L extends EventsMap = Listen, E extends EventsMap = Emit>(nsp: string, options?: SocketOptions): Socket<L, E>;
}

interface Lookup {
  /**
   * A socket of the namespace in the path of the address; without an address, on the server of the
   * page.
   */
  <L extends EventsMap = DefaultEventsMap, E extends EventsMap = L>(options?: Options): Socket<L, E>;
  <L extends EventsMap = DefaultEventsMap, E extends EventsMap = L>(uri: string | undefined, options?: Options): Socket<L, E>;
}

export const io: Lookup & { io: Lookup; connect: Lookup; Manager: typeof Manager; Socket: typeof Socket };
export { io as connect, io as default };

/** Version of the protocol. */
export const protocol: 5;

/** Transports for the option `transports`. */
export const Fetch: new (options: any) => any;
export const WebSocket: new (options: any) => any;
