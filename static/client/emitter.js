/** Listeners by event name; the base of every class of this library that has events. */

/** @typedef {(...args: any[]) => void} Listener */

export class Emitter {
  /** @type {Map<string, Listener[]>} */
  #listeners = new Map();

  /**
   * @param {string} event
   * @param {Listener} listener
   */
  on(event, listener) {
    // A new array instead of a push: a running emit uses the listeners present at its start.
    this.#listeners.set(`${event}`, [...this.listeners(event), listener]);
    return this;
  }

  /**
   * @param {string} event
   * @param {Listener} listener
   */
  once(event, listener) {
    /** @type {Listener & { listener?: Listener }} */
    const wrapper = (...args) => {
      this.off(event, wrapper);
      listener.apply(this, args);
    };
    wrapper.listener = listener;
    return this.on(event, wrapper);
  }

  /**
   * Removes one listener, all of one event, or all.
   * @param {string} [event]
   * @param {Listener} [listener]
   */
  off(event, listener) {
    if (event === undefined) {
      this.#listeners.clear();
      return this;
    }
    const left = listener ? [...this.listeners(event)] : [];
    const index = left.findIndex((one) => one === listener || /** @type {any} */ (one).listener === listener);
    if (index >= 0) left.splice(index, 1);
    if (left.length) this.#listeners.set(`${event}`, left);
    else this.#listeners.delete(`${event}`);
    return this;
  }

  /**
   * Calls the local listeners in order. An exception in one of them affects neither the others nor
   * the caller.
   * @param {string} event
   * @param {...any} args
   */
  emitReserved(event, ...args) {
    for (const listener of this.listeners(event)) call(listener, this, ...args);
    return this;
  }

  /**
   * @param {string} event
   * @param {...any} args
   */
  emit(event, ...args) {
    return this.emitReserved(event, ...args);
  }

  /**
   * @param {string} event
   * @returns {Listener[]}
   */
  listeners(event) {
    return this.#listeners.get(`${event}`) ?? [];
  }

  /** @param {string} event */
  hasListeners(event) {
    return this.listeners(event).length > 0;
  }

  // Aliases with the names of socket.io-client.

  /**
   * @param {string} event
   * @param {Listener} listener
   */
  addEventListener(event, listener) {
    return this.on(event, listener);
  }

  /**
   * @param {string} [event]
   * @param {Listener} [listener]
   */
  removeListener(event, listener) {
    return this.off(event, listener);
  }

  /**
   * @param {string} [event]
   * @param {Listener} [listener]
   */
  removeEventListener(event, listener) {
    return this.off(event, listener);
  }

  /** @param {string} [event] */
  removeAllListeners(event) {
    return this.off(event);
  }
}

/**
 * Calls code of the application. An exception is reported as uncaught, in a turn of its own: it is
 * not an error of the library and must not interrupt it.
 * @param {Function | undefined} code
 * @param {any} self
 * @param {...any} args
 */
export function call(code, self, ...args) {
  try {
    code?.apply(self, args);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/**
 * Adds a listener; returns a function that removes it.
 * @param {{ on: Function, off: Function }} emitter
 * @param {string} event
 * @param {Listener} listener
 * @returns {() => void}
 */
export function subscribe(emitter, event, listener) {
  emitter.on(event, listener);
  return () => emitter.off(event, listener);
}
