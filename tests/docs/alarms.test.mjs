/** Names of metrics in the alert rules, the dashboard, and the pages for operators. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { parse as parseYaml } from "yaml";
import { startHub } from "../clients/harness.mjs";
import { parse, read } from "./markdown.mjs";

const DASHBOARD = "deploy/grafana-dashboard.json";
const RULES = "deploy/prometheus-rules.yml";

/** Metrics that Prometheus itself has. */
const OF_PROMETHEUS = ["up"];

/** Rows of the table of `Server::metrics`. */
const TABLE = [...read("src/server/mod.rs").matchAll(/^ +\/\/\/ \| `(stentor_\w+)/gm)].map(([, name]) => name);

/** Names of metrics in a text, a histogram by its own name. */
const named = (text) => [...new Set(text.match(/\b(stentor|process)_[a-z_]+\b/g))].map((name) => name.replace(/_bucket$/, ""));

const rules = () => parseYaml(read(RULES)).groups.flatMap((group) => group.rules);

const panels = () => JSON.parse(read(DASHBOARD)).panels.filter((panel) => panel.type !== "row");

let hub;
let metrics;

before(async () => {
  hub = await startHub({ recovery: "disk", flags: ["--hooks-url", "http://127.0.0.1:9/hooks", "--hooks-key", "0123456789abcdef0123456789abcdef"] });
  const lines = (await (await fetch(`${hub.url}/metrics`)).text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  metrics = new Set(lines.map((line) => line.split(/[{ ]/)[0].replace(/_(bucket|sum|count)$/, "")));
});

after(() => hub?.stop());

const unknown = (text) => named(text).filter((metric) => !metrics.has(metric));

test("metrics of rules and dashboard are those of a running server", () => {
  assert.ok(metrics.size > 50, `${metrics.size} metrics are found`);
  assert.ok(rules().length > 15, `${rules().length} rules are found`);
  for (const { alert, expr } of rules()) {
    assert.deepEqual(unknown(expr), [], alert);
    assert.ok(named(expr).length > 0 || OF_PROMETHEUS.some((name) => expr.startsWith(name)), alert);
  }
  const expressions = panels().flatMap((panel) => panel.targets.map((target) => target.expr));
  assert.ok(expressions.length > 40, `${expressions.length} expressions are found`);
  for (const expression of expressions) assert.deepEqual(unknown(expression), [], expression);
});

test("metrics of the pages are those of a running server", () => {
  for (const page of ["operations", "budgets", "deployment"]) {
    assert.deepEqual(unknown(parse(read(`docs/${page}.md`)).lines.join("\n")), [], page);
  }
  assert.ok(TABLE.length > 50, `${TABLE.length} rows are found`);
  assert.deepEqual(TABLE.filter((metric) => !metrics.has(metric)), []);
});

test("every metric of the table of alarms has a rule", () => {
  const [, table] = /## Metrics worth an alarm([^]*?)\n## /.exec(read("docs/operations.md"));
  const conditions = [...table.matchAll(/^\| (.*?) \| /gm)].map(([, condition]) => condition).join("\n");
  const ruled = named(read(RULES));
  assert.ok(named(conditions).length > 15, `${named(conditions).length} metrics are found`);
  assert.deepEqual(named(conditions).filter((metric) => !ruled.includes(metric)), []);
});

test("rules have a name of their own and a summary", () => {
  const names = rules().map((rule) => rule.alert);
  assert.deepEqual(names.filter((name, at) => names.indexOf(name) !== at), []);
  for (const { alert, annotations } of rules()) assert.match(annotations.summary, /\.$/, alert);
});

test("panels of the dashboard have titles and ids, and do not overlap", () => {
  const { panels: all, uid, templating } = JSON.parse(read(DASHBOARD));
  assert.equal(uid, "stentor");
  assert.deepEqual(templating.list.map((variable) => variable.name), ["datasource", "instance"]);
  assert.equal(new Set(all.map((panel) => panel.id)).size, all.length);
  const taken = new Set();
  for (const { title, gridPos: { x, y, w, h } } of all) {
    assert.ok(title && x + w <= 24, title);
    for (let at = 0; at < w * h; at += 1) {
      const cell = `${x + (at % w)},${y + Math.floor(at / w)}`;
      assert.ok(!taken.has(cell), `${title} overlaps another panel`);
      taken.add(cell);
    }
  }
});
