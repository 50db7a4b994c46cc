/**
 * Reporter for node:test: numbers of passed and failed tests of `surface.test.mjs` and
 * `durable-hub.test.mjs` for each client, server and transport.
 */

const PAIR = / and (its own port|inside a host|Node's socket\.io|stentor serve)$/;

export default async function* interop(events) {
  /** Names from the outermost suite of each file to the running test. */
  const places = new Map();
  const cells = {};
  for await (const { type, data } of events) {
    if (!["test:start", "test:pass", "test:fail"].includes(type)) continue;
    const names = (places.get(data.file) ?? []).slice(0, data.nesting);
    names[data.nesting] = data.name;
    places.set(data.file, names);
    if (type === "test:start") continue;
    const at = names.findIndex((name) => PAIR.test(name));
    if (at < 0 || names.length !== at + 3) continue;
    const cell = (cells[`${names[at]}/${names[at + 1]}`] ??= { passed: 0, failed: 0 });
    cell[type === "test:pass" ? "passed" : "failed"] += 1;
  }
  yield `${JSON.stringify(cells, null, 1)}\n`;
}
