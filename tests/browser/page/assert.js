/**
 * The part of node:assert/strict that the tests use. Bytes are equal in an ArrayBuffer, typed array
 * or view.
 */

const print = (value) => JSON.stringify(plain(value)) ?? String(value);

const bytesOf = (value) => {
  if (value instanceof ArrayBuffer) return [...new Uint8Array(value)];
  if (ArrayBuffer.isView(value)) return [...new Uint8Array(value.buffer, value.byteOffset, value.byteLength)];
};

/** `value` with bytes as marked lists and keys of objects in one order. */
function plain(value) {
  if (value === undefined) return { undefined: true };
  if (!value || typeof value !== "object") return value;
  const bytes = bytesOf(value);
  if (bytes) return { bytes: bytes.join() };
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, plain(value[key])]));
}

function fail(message) {
  throw new Error(message.slice(0, 2_000));
}

const assert = {
  ok(value, message = `expected something true, got ${print(value)}`) {
    if (!value) fail(message);
  },
  equal(actual, expected) {
    if (!Object.is(actual, expected)) fail(`expected ${print(expected)}, got ${print(actual)}`);
  },
  notEqual(actual, other) {
    if (Object.is(actual, other)) fail(`expected anything but ${print(other)}`);
  },
  deepEqual(actual, expected) {
    if (print(actual) !== print(expected)) fail(`expected ${print(expected)}, got ${print(actual)}`);
  },
  async rejects(promise, pattern) {
    const error = await promise.then(() => fail(`expected a rejection that says ${pattern}`), (error) => error);
    if (!pattern.test(error.message)) fail(`expected a rejection that says ${pattern}, got ${error.message}`);
  },
};

export default assert;
