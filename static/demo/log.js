/** Log of events in plain words, the newest at the end. */

import { byId, make } from "./element.js";

const LINES_MAX = 200;

/** @param {Date} at */
export const stamp = (at) => at.toTimeString().slice(0, 8);

/**
 * Seconds between two displayed times.
 * @param {Date} from
 * @param {Date} to
 */
export const secondsBetween = (from, to) => Math.max(0, Math.floor(to.getTime() / 1000) - Math.floor(from.getTime() / 1000));

/**
 * @param {string} sentence
 * @param {"good" | "bad" | "note"} [kind]
 */
export function log(sentence, kind = "note") {
  const list = byId("log");
  const now = new Date();
  const time = make("time", { datetime: now.toISOString() }, stamp(now));
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const lines = list.firstElementChild;
  lines.append(make("li", { class: kind }, time, make("span", {}, sentence)));
  while (lines.children.length > LINES_MAX) lines.firstElementChild.remove();
  // The scroll position stays unless it is at the end.
  if (atEnd) list.scrollTop = list.scrollHeight;
}
