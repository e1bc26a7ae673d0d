// The files in deploy/ are what they say: a hardened unit, an image without root, compose files
// that agree with both.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";

import { root } from "./lib/root.mjs";

const read = (name) => readFileSync(join(root, "deploy", name), "utf8");
const compose = (name) => parse(read(`compose.${name}.yml`));

/** Of `systemd-analyze security`: 0 is nothing exposed, 10 everything. */
const EXPOSURE_MAX = 1.5;

/** Settings by section; a key that stands twice has both values. */
function unit() {
  const settings = {};
  for (const line of read("zerok-relay.service").split("\n")) {
    const [, key, value] = /^(\w+)=(.*)$/.exec(line) ?? [];
    if (key !== undefined) (settings[key] ??= []).push(value);
  }
  return settings;
}

/** The instructions of the image's last stage. */
function image() {
  const lines = read("Dockerfile").replaceAll("\\\n", " ").split("\n").filter((line) => /^[A-Z]+ /.test(line));
  return lines.slice(lines.findLastIndex((line) => line.startsWith("FROM ")));
}

test("the unit leaves the relay nothing but the network and its own directory", () => {
  const settings = unit();
  for (const key of ["DynamicUser", "NoNewPrivileges", "PrivateDevices", "PrivateTmp", "ProtectHome", "ProtectKernelTunables", "MemoryDenyWriteExecute"]) {
    assert.deepEqual(settings[key], ["yes"], key);
  }
  assert.deepEqual(settings.ProtectSystem, ["strict"]);
  assert.deepEqual(settings.CapabilityBoundingSet, [""]);
  assert.deepEqual(settings.SystemCallFilter, ["@system-service", "~@privileged @resources"]);
  assert.deepEqual(settings.StateDirectory, ["zerok-relay"]);
});

test("the unit's limit on open files is twice the relay's on connections", () => {
  const [, most] = /^\| `connections_max` \| (\d+) \|/m.exec(readFileSync(join(root, "docs/LIMITS.md"), "utf8"));
  assert.deepEqual(unit().LimitNOFILE, [String(2 * Number(most))]);
  for (const name of ["sqlite", "postgres"]) assert.equal(compose(name).services.relay.ulimits.nofile, 2 * Number(most), name);
});

test("systemd understands the unit and finds little exposed", (t) => {
  if (spawnSync("systemd-analyze", ["--version"]).status !== 0) {
    t.skip("SKIPPED: systemd-analyze is not installed here, so nobody but this test's other half looked at the unit");
    return;
  }
  const directory = mkdtempSync(join(tmpdir(), "zerok-unit-"));
  const path = join(directory, "zerok-relay.service");
  // That there is such a program is the only thing that another one can stand for.
  writeFileSync(path, read("zerok-relay.service").replace("ExecStart=/usr/bin/zerok-relay", `ExecStart=${process.execPath}`));
  const verified = spawnSync("systemd-analyze", ["verify", path], { encoding: "utf8" });
  const judged = spawnSync("systemd-analyze", ["security", "--offline=true", `--threshold=${EXPOSURE_MAX * 10}`, path], { encoding: "utf8" });
  rmSync(directory, { recursive: true });
  assert.deepEqual([verified.status, verified.stderr], [0, ""]);
  assert.equal(judged.status, 0, judged.stdout.split("\n").slice(-3).join("\n"));
});

test("the image runs one program, as nobody in particular, and asks it for its health", () => {
  const instructions = image();
  assert.deepEqual(instructions.slice(0, 2), ["FROM scratch", "COPY --from=build /out/ /"]);
  assert.ok(instructions.includes("USER 65532:65532"));
  assert.ok(instructions.includes('ENTRYPOINT ["/usr/bin/zerok-relay"]'));
  assert.match(instructions.find((line) => line.startsWith("HEALTHCHECK ")), /CMD \["\/usr\/bin\/zerok-relay", "health"\]$/);
});

test("every relay in a compose file has a read-only root and no privileges", () => {
  for (const name of ["sqlite", "postgres"]) {
    const { relay } = compose(name).services;
    assert.equal(relay.read_only, true, name);
    assert.deepEqual([relay.cap_drop, relay.security_opt, relay.tmpfs], [["ALL"], ["no-new-privileges:true"], ["/tmp"]], name);
    assert.ok(relay.ports.includes("127.0.0.1:8080:8080/tcp"), `${name} offers plain HTTP to this machine only`);
  }
  const { relay, caddy } = compose("caddy").services;
  assert.equal(relay.environment.ZEROK_RELAY_TRUSTED_PROXIES, caddy.networks.front.ipv4_address, "Caddy and nobody else is believed");
});

test("every variable that the compose files and the image set is a setting of the relay", () => {
  const known = new Set([...readFileSync(join(root, "relay/relay.example.toml"), "utf8").matchAll(/^#? ?([a-z_]+) = /gm)].map(([, name]) => name));
  assert.ok(known.has("listen") && known.has("connections_max"));
  const used = ["compose.sqlite.yml", "compose.postgres.yml", "compose.caddy.yml", "Dockerfile"].flatMap((name) =>
    [...read(name).matchAll(/\b(ZEROK_RELAY_[A-Z_]+)[:=]/g)].map(([, variable]) => variable.replace("ZEROK_RELAY_", "").toLowerCase()));
  assert.ok(used.length > 8);
  assert.deepEqual(used.filter((name) => !known.has(name)), []);
});
