// The dashboard and the alert rules speak of numbers that the relay really tells, and of all that
// matter.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { parse } from "yaml";

import { startRelay } from "../../client-wasm/test/support/relay.mjs";

const file = (name) => readFileSync(new URL(`../../docs/monitoring/${name}`, import.meta.url), "utf8");
const dashboard = JSON.parse(file("grafana-dashboard.json"));
const rules = parse(file("alerts.yml")).groups.flatMap((group) => group.rules);
const panels = dashboard.panels.filter((panel) => panel.type !== "row");
const drawn = panels.flatMap((panel) => panel.targets.map((target) => target.expr));
const alerted = rules.map((rule) => rule.expr);

/** Told by Prometheus itself about every job. */
const SCRAPED = new Set(["up"]);
/** In `/metrics` for those who ask, in no picture: what is running is a label. */
const UNDRAWN = new Set(["zerok_relay_build_info"]);

/** The metrics that an expression names, each with the labels it asks for. */
function selectors(expression) {
  return [...expression.matchAll(/\b(up|(?:zerok_relay|process)_\w+)(?:\{([^}]*)\})?/g)].map(([, name, labels = ""]) => ({
    name,
    labels: [...labels.matchAll(/(\w+)(?:=~|!=|=)"([^"]*)"/g)].map(([, key, value]) => ({ key, values: value.split("|") })),
  }));
}

describe("monitoring", { timeout: 60_000 }, () => {
  /** Label sets by sample name. */
  const told = new Map();
  let relay;

  before(async () => {
    relay = await startRelay({ arguments: ["--no-iroh"] });
    const text = await (await fetch(`${relay.url}/metrics`)).text();
    for (const line of text.split("\n").filter((line) => line && !line.startsWith("#"))) {
      const [, name, labels = ""] = /^(\w+)(?:\{(.*)\})? /.exec(line);
      const set = Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]));
      told.set(name, [...(told.get(name) ?? []), set]);
    }
  });

  after(() => relay?.stop());

  test("every number that is drawn or alerted on is one that the relay tells", () => {
    const wanted = [...drawn, ...alerted].flatMap(selectors);
    assert.ok(wanted.length > 50);
    const unknown = wanted.filter(({ name }) => !told.has(name) && !SCRAPED.has(name));
    assert.deepEqual(unknown.map(({ name }) => name), []);
  });

  test("every label value that an expression asks for exists", () => {
    for (const { name, labels } of [...drawn, ...alerted].flatMap(selectors)) {
      for (const { key, values } of labels.filter(({ key }) => !["job", "instance"].includes(key))) {
        const there = new Set(told.get(name).map((set) => set[key]));
        assert.deepEqual(values.filter((value) => !there.has(value)), [], `${name}{${key}}`);
      }
    }
  });

  test("every number that the relay tells is drawn", () => {
    const seen = new Set(drawn.flatMap(selectors).map(({ name }) => name.replace(/_(?:bucket|sum|count)$/, "")));
    const families = new Set([...told.keys()].map((name) => (told.has(name.replace(/_(?:sum|count|bucket)$/, "_bucket")) ? name.replace(/_(?:sum|count|bucket)$/, "") : name)));
    const annotated = new Set(dashboard.annotations.list.flatMap(({ expr }) => selectors(expr)).map(({ name }) => name));
    assert.deepEqual([...families].filter((name) => !seen.has(name) && !annotated.has(name) && !UNDRAWN.has(name)), []);
  });

  test("every alert says how bad it is, what happened and what to do", () => {
    assert.ok(rules.length >= 10);
    for (const { alert, expr, labels, annotations, ...rest } of rules) {
      assert.match(alert, /^Relay[A-Z]\w+$/);
      assert.equal(typeof expr, "string");
      assert.ok(["critical", "warning"].includes(labels.severity), alert);
      assert.ok(annotations.summary.length > 20 && annotations.action.length > 20, alert);
      assert.deepEqual(Object.keys(rest).filter((key) => key !== "for"), [], alert);
    }
    assert.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length);
  });

  test("every panel has a place, a description and the instances chosen above", () => {
    assert.ok(panels.length > 20);
    for (const { title, description, gridPos, targets } of panels) {
      assert.ok(description.length > 5 && gridPos.x + gridPos.w <= 24, title);
      for (const { expr } of targets) assert.match(expr, /job="\$job", instance=~"\$instance"/, title);
    }
  });
});
