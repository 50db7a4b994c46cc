/** The part of node:test that the tests use: nested suites, hooks, one test after the other. */

const TEST_MS = 20_000;

const root = suite("");
let open = root;

function suite(name) {
  return { name, entries: [], before: [], after: [], afterEach: [] };
}

export function describe(name, declare) {
  const outer = open;
  open = suite(name);
  outer.entries.push(open);
  declare();
  open = outer;
}

export function test(name, body) {
  open.entries.push({ name, body });
}

export const before = (hook) => open.before.push(hook);
export const after = (hook) => open.after.push(hook);
export const afterEach = (hook) => open.afterEach.push(hook);

/**
 * Runs the declared tests. A suite becomes `{ name, entries }`, a test `{ name, error }`, with the
 * error as text or null.
 */
export const run = async () => (await runSuite(root, [])).entries;

async function runSuite({ name, entries, before, after, afterEach }, outer) {
  const hooks = [...afterEach, ...outer];
  const results = [];
  for (const hook of before) await hook();
  for (const entry of entries) results.push(await (entry.body ? runTest(entry, hooks) : runSuite(entry, hooks)));
  for (const hook of after) await hook();
  return { name, entries: results };
}

async function runTest({ name, body }, hooks) {
  let timer;
  const deadline = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not over after ${TEST_MS} ms`)), TEST_MS)));
  try {
    await Promise.race([body(), deadline]);
    return { name, error: null };
  } catch (error) {
    return { name, error: error.stack ?? String(error) };
  } finally {
    clearTimeout(timer);
    for (const hook of hooks) await hook();
  }
}
