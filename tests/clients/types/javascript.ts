/** Checks that the JavaScript, typed by its JSDoc, matches the declarations. */

import type * as javascript from "./emitted/index.js";
import type * as declared from "stentor-client";

type Members<T> = { [K in keyof T]: T[K] extends (...args: any[]) => any ? (...args: any[]) => any : unknown };

const library: Record<keyof typeof declared, unknown> = {} as typeof javascript;
const socket: Members<declared.Socket> = {} as javascript.Socket;
const manager: Members<declared.Manager> = {} as javascript.Manager;
const options: Record<keyof declared.Options, unknown> = {} as Required<javascript.Options>;
const given: Record<keyof javascript.Options, unknown> = {} as Required<declared.Options>;

console.log(library, socket, manager, options, given);
