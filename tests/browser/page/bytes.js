/** As much of Node's Buffer as the tests use. In a page bytes arrive as ArrayBuffer; `assert.js` takes one for the other. */

globalThis.Buffer = {
  from: (data) => (typeof data === "string" ? new TextEncoder().encode(data) : Uint8Array.from(data)),
  alloc: (length, byte = 0) => new Uint8Array(length).fill(byte),
};
