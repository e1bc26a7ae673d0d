// The parts of the two commands that decide something.

import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";

import { countCargoTest, countNodeTest } from "../scripts/lib/counts.mjs";
import { isTaken, relayAddress } from "../scripts/lib/relay-address.mjs";
import { judge } from "../scripts/lib/report.mjs";

test("cargo's closing lines are added up, ignored tests left out", () => {
  const output = [
    "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s",
    "test a ... FAILED",
    "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
  ].join("\n");
  assert.deepEqual(countCargoTest(output), { passed: 15, failed: 2 });
  assert.deepEqual(countCargoTest("error: could not compile"), { passed: 0, failed: 0 });
});

test("Node's closing lines are added up in both their forms, cancelled tests as failed", () => {
  assert.deepEqual(countNodeTest("# tests 4\n# pass 3\n# fail 1\n# cancelled 0\n"), { passed: 3, failed: 1 });
  assert.deepEqual(countNodeTest("ℹ tests 4\nℹ pass 3\nℹ fail 0\nℹ cancelled 1\n"), { passed: 3, failed: 1 });
});

test("a runner that ran nothing has failed", () => {
  const { failed, note } = judge({ count: countCargoTest }, true, "");
  assert.equal(failed, 1);
  assert.equal(note, "it ran no test");
});

test("a runner that failed without a failing test has failed", () => {
  const output = "# pass 3\n# fail 0\n# cancelled 0\n";
  assert.equal(judge({ count: countNodeTest }, false, output).failed, 1);
  assert.equal(judge({ count: countNodeTest }, true, output).failed, 0);
});

test("a check without a runner counts as one test", () => {
  assert.deepEqual(judge({}, true, ""), { passed: 1, failed: 0 });
  assert.deepEqual(judge({}, false, ""), { passed: 0, failed: 1 });
});

test("the relay's address is its flag, else its variable, else its default", () => {
  assert.equal(relayAddress([], {}), "127.0.0.1:8080");
  assert.equal(relayAddress([], { ZEROK_RELAY_LISTEN: "[::1]:7" }), "[::1]:7");
  assert.equal(relayAddress(["--no-iroh", "--listen", "0.0.0.0:9"], { ZEROK_RELAY_LISTEN: "[::1]:7" }), "0.0.0.0:9");
  assert.equal(relayAddress(["--listen=0.0.0.0:9"], {}), "0.0.0.0:9");
});

test("a taken port is noticed, a free one and nonsense are not", async () => {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  assert.equal(await isTaken(`127.0.0.1:${port}`), true);
  await new Promise((resolve) => server.close(resolve));
  assert.equal(await isTaken(`127.0.0.1:${port}`), false);
  assert.equal(await isTaken("nonsense"), false);
  assert.equal(await isTaken("127.0.0.1:99999"), false);
});
