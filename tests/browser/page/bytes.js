/**
 * The part of Node's Buffer that the tests use. In a page bytes arrive as ArrayBuffer; `assert.js`
 * treats both alike.
 */

globalThis.Buffer = {
  from: (data) => (typeof data === "string" ? new TextEncoder().encode(data) : Uint8Array.from(data)),
  alloc: (length, byte = 0) => new Uint8Array(length).fill(byte),
};
