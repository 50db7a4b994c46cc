/**
 * Parses the address given to `io()` into server and namespace, relative to the page's location.
 */

/** @type {Record<string, string>} */
const DEFAULT_PORTS = { "http:": "80", "ws:": "80", "https:": "443", "wss:": "443" };
const SHAPE = /^(https?:|wss?:)\/\/([^/?#]+)([^?#]*)(?:\?([^#]*))?/i;

/**
 * @typedef {object} Address
 * @property {boolean} secure
 * @property {string} host with its port, IPv6 in brackets
 * @property {string} hostname
 * @property {string} namespace
 * @property {string} query without the question mark; may be empty
 * @property {string} id equal for all addresses of one server
 */

/**
 * @param {string | undefined | null} uri absolute, without a scheme, `/namespace`, or nothing for
 * the server of the page
 * @param {{ protocol: string, host: string }} [here]
 * @returns {Address}
 * @throws {Error} with the given value and the expected form
 */
export function parseUrl(uri, here = globalThis.location) {
  let absolute = `${uri ?? ""}`;
  if (absolute.startsWith("//")) absolute = `${here?.protocol ?? "https:"}${absolute}`;
  else if (absolute === "" || absolute[0] === "/") absolute = here ? `${here.protocol}//${here.host}${absolute}` : absolute;
  else if (!absolute.includes("://")) absolute = `${here?.protocol ?? "https:"}//${absolute}`;

  const [, scheme, authority, path, query = ""] = SHAPE.exec(absolute) ?? [];
  let url;
  try {
    url = new URL(`http://${authority.slice(authority.lastIndexOf("@") + 1)}`);
  } catch {
    throw new Error(`invalid URL ${JSON.stringify(uri)}: expected one such as "https://example.com/namespace"`);
  }
  const protocol = scheme.toLowerCase();
  // `URL` removes port 80 of "http:"; with "https:" it has to stay.
  const port = url.port || /:(\d+)$/.exec(authority)?.[1] || DEFAULT_PORTS[protocol];
  const host = port === DEFAULT_PORTS[protocol] ? url.hostname : `${url.hostname}:${port}`;
  return {
    secure: protocol === "https:" || protocol === "wss:",
    host,
    hostname: url.hostname,
    namespace: path || "/",
    query,
    id: `${protocol}//${url.hostname}:${port}`,
  };
}
