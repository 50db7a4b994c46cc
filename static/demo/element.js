/** Elements: found by id, or created with their contents. */

/**
 * The element of the page with this id; a missing one is an error in the page.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`no element #${id} in the page`);
  return element;
}

/**
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string)} contents text is never parsed as markup
 */
export function make(tag, attributes = {}, ...contents) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...contents);
  return element;
}

/**
 * A name with a dot in its colour.
 * @param {import("./names.js").Person} person
 * @param {string} [note] in brackets after the name
 */
export function badge({ name, hue }, note) {
  const element = make("span", { class: "badge" }, name, ...(note ? [make("small", {}, ` ${note}`)] : []));
  element.style.setProperty("--hue", `${hue}`);
  return element;
}

/**
 * Marks whether a button has an effect. One without effect keeps the focus, unlike a disabled one.
 * @param {string} id
 * @param {boolean} yes
 */
export const allow = (id, yes) => byId(id).setAttribute("aria-disabled", `${!yes}`);

/** @param {string} id */
export const allows = (id) => byId(id).getAttribute("aria-disabled") !== "true";
