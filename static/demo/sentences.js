/** Error messages as sentences for visitors of the page. */

/** Time limit for the check whether a server answers at all, in milliseconds. */
const PROBE_MS = 4_000;

/** Reasons of a disconnect: the client's words and plain ones. */
const REASONS = {
  "io server disconnect": "the server closed it",
  "io client disconnect": "this page closed it",
  "ping timeout": "nothing came for longer than the server promised: the network is gone, this computer slept, or its clock was changed",
  "transport close": "the other end has gone",
  "transport error": "the network or the server failed",
  "parse error": "the server sent what is no Socket.IO packet",
  "forced close": "this page cut it",
};

/** @param {string} reason */
export const whyItEnded = (reason) => /** @type {Record<string, string>} */ (REASONS)[reason] ?? reason;

/**
 * @param {any} error of "connect_error"
 * @param {{ url: string, refused: boolean }} attempt the address; whether the server itself
 * refused, so that only the page can retry
 * @returns {Promise<string>}
 */
export async function whyNotConnected(error, { url, refused }) {
  const said = error.message;
  if (refused) return `The server refuses this tab: ${said}. It will not be asked again by itself; change the token below.`;
  if (said.startsWith("invalid URL")) return `That is no address: ${said}.`;
  if (said.startsWith("not a Socket.IO server")) return `There is a server at ${url}, but no Socket.IO server: ${said.replace(/^.*?: /, "")}.`;
  if (/HTTP \d+/.test(said)) return `There is a server at ${url}, but no Socket.IO server where it was expected: ${said}.`;
  if (said === "timeout") return `${url} does not answer.`;
  if (said.includes("not reachable")) {
    // The browser does not report which of the two it was; an opaque response shows that a server
    // is there.
    const there = await isThere(url);
    if (there) return `There is a server at ${url}, but it does not allow this page’s origin (${location.origin}); a Stentor does with --cors-origins.`;
    return `Nobody answers at ${url}: is the server running?`;
  }
  return `Not connected to ${url}: ${said}.`;
}

/** @param {string} url */
async function isThere(url) {
  if (new URL(url).origin === location.origin) return false;
  try {
    await fetch(url, { mode: "no-cors", cache: "no-store", signal: AbortSignal.timeout(PROBE_MS) });
    return true;
  } catch {
    return false;
  }
}
