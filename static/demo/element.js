/** Elements: found by id, made with their contents. */

/**
 * The element of the page with this id; a missing one is a mistake in the page and said at once.
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
 * @param {...(Node | string)} contents text is never read as markup
 */
export function make(tag, attributes = {}, ...contents) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...contents);
  return element;
}

/**
 * A person's name behind a dot in their colour.
 * @param {import("./names.js").Person} person
 * @param {string} [note] in brackets behind it
 */
export function badge({ name, hue }, note) {
  return make("span", { class: "badge", style: `--hue: ${hue}` }, name, ...(note ? [make("small", {}, ` ${note}`)] : []));
}

/**
 * Whether a button does something now. One that does not keeps the focus, unlike one that is disabled.
 * @param {string} id
 * @param {boolean} yes
 */
export const allow = (id, yes) => byId(id).setAttribute("aria-disabled", `${!yes}`);

/** @param {string} id */
export const allows = (id) => byId(id).getAttribute("aria-disabled") !== "true";
