/** The text of the next event, and a button for each way to send it. */

import { byId } from "./element.js";

/** Buttons, by id; their ids are the names of the ways. */
const WAYS = /** @type {const} */ (["emit", "publish", "order"]);

/** @typedef {(typeof WAYS)[number]} Way */

export class Composer {
  /** @param {Record<Way, (text: string) => void>} ways */
  constructor(ways) {
    byId("composer").addEventListener("submit", (/** @type {any} */ event) => {
      event.preventDefault();
      const field = byId("text");
      ways[/** @type {Way} */ (event.submitter.id)](field.value);
      // The next event has another text, so that both can be told apart.
      field.value = field.value.replace(/\d{1,9}$/, (/** @type {string} */ number) => `${Number(number) + 1}`);
    });
    byId("text").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      // The filled button instead of the first one.
      byId("composer").requestSubmit(document.querySelector("#composer .primary") ?? byId("publish"));
    });
  }
}
