/**
 * Names for sockets, derived from their ids: every tab gives a socket the same name without asking
 * the server.
 */

/**
 * @type {[string, number][]} words and hues, so that two sockets never differ by colour alone; none
 * is red, amber or
 *   green, which show results
 */
const COLOURS = [
  ["Cyan", 190],
  ["Sky", 204],
  ["Blue", 222],
  ["Indigo", 242],
  ["Violet", 264],
  ["Purple", 284],
  ["Magenta", 302],
  ["Pink", 320],
];

const ANIMALS = [
  "Badger", "Bear", "Beaver", "Bison", "Crane", "Crow", "Deer", "Dove", "Eagle", "Falcon", "Finch", "Fox", "Goose", "Hare", "Heron", "Horse",
  "Ibex", "Jay", "Lark", "Lynx", "Marten", "Mole", "Moose", "Otter", "Owl", "Raven", "Robin", "Seal", "Stork", "Swan", "Wolf", "Wren",
];

/** @typedef {{ name: string, hue: number }} Person */

/**
 * @param {string} id of a socket
 * @returns {Person}
 */
export function personOf(id) {
  let hash = 0;
  for (const char of id) hash = (Math.imul(hash, 31) + char.charCodeAt(0)) >>> 0;
  const [colour, hue] = COLOURS[hash % COLOURS.length];
  return { name: `${colour} ${ANIMALS[Math.floor(hash / COLOURS.length) % ANIMALS.length]}`, hue };
}
