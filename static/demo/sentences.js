/** Error messages as sentences for visitors of the page. */

/** Time limit for the check whether a server answers at all, in milliseconds. */
const PROBE_MS = 4_000;

/** Reasons of a disconnect: the client's words and plain ones. */
const REASONS = {
  "io server disconnect": "the server closed it",
  "io client disconnect": "this page closed it",
  "ping timeout": "no ping for longer than the server announced: the network failed, this computer slept, or its clock was changed",
  "transport close": "the server closed the transport",
  "transport error": "the network or the server failed",
  "parse error": "the server sent an invalid packet",
  "forced close": "this page closed it",
};

/** @param {string} reason */
export const disconnectReason = (reason) => /** @type {Record<string, string>} */ (REASONS)[reason] ?? reason;

/**
 * @param {any} error of "connect_error"
 * @param {{ url: string, refused: boolean }} attempt the address; whether the server itself
 * refused, so that only the page can retry
 * @returns {Promise<string>}
 */
export async function connectErrorSentence(error, { url, refused }) {
  const message = error.message;
  if (refused) return `The server refuses this tab: ${message}. There is no automatic retry; change the token below.`;
  if (message.startsWith("invalid URL")) return `Invalid address: ${message}.`;
  if (message.startsWith("not a Socket.IO server")) return `The server at ${url} is no Socket.IO server: ${message.replace(/^.*?: /, "")}.`;
  if (/HTTP \d+/.test(message)) return `The server at ${url} has no Socket.IO endpoint at this path: ${message}.`;
  if (message === "timeout") return `${url} does not answer.`;
  if (message.includes("not reachable")) {
    // The browser does not report which of the two it was; an opaque response shows that a server
    // is there.
    const answers = await isReachable(url);
    if (answers) return `The server at ${url} does not allow this page’s origin (${location.origin}); Stentor allows it with --cors-origins.`;
    return `No answer at ${url}: is the server running?`;
  }
  return `Not connected to ${url}: ${message}.`;
}

/** @param {string} url */
async function isReachable(url) {
  if (new URL(url).origin === location.origin) return false;
  try {
    await fetch(url, { mode: "no-cors", cache: "no-store", signal: AbortSignal.timeout(PROBE_MS) });
    return true;
  } catch {
    return false;
  }
}
