/** Names of metrics in `deploy/prometheus-rules.yml` and in the pages for operators. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse, read } from "./markdown.mjs";

/** Rows of the table of `Server::metrics`, and the metric that `stentor serve` adds to them. */
const METRICS = new Set([...read("src/server/mod.rs").matchAll(/^ +\/\/\/ \| `(stentor_\w+)/gm)].map(([, name]) => name)).add("stentor_api_keys_refused_total").add("stentor_api_requests_total");

const named = (text) => [...new Set(text.match(/\bstentor_[a-z_]+\b/g))];

test("metrics that rules and documents name exist", () => {
  assert.ok(METRICS.size > 50, `${METRICS.size} metrics are found`);
  const expressions = [...read("deploy/prometheus-rules.yml").matchAll(/^ +expr: (.*)/gm)].map(([, expression]) => expression);
  assert.ok(expressions.length > 10, `${expressions.length} rules are found`);
  const unknown = (text) => named(text).filter((metric) => !METRICS.has(metric));
  assert.deepEqual(unknown(expressions.join("\n")), []);
  for (const page of ["operations", "budgets", "deployment"]) {
    assert.deepEqual(unknown(parse(read(`docs/${page}.md`)).lines.join("\n")), [], page);
  }
});

test("every metric of the table of alarms with a threshold has a rule", () => {
  const [, table] = /## Metrics worth an alarm([^]*?)\n## /.exec(read("docs/operations.md"));
  const conditions = [...table.matchAll(/^\| (.*?) \| /gm)].map(([, condition]) => condition).join("\n");
  const rules = named(read("deploy/prometheus-rules.yml"));
  assert.deepEqual(named(conditions).filter((metric) => !rules.includes(metric)), ["stentor_requests_refused_total"]);
});
