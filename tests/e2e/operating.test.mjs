// docs/OPERATING.md is true: its tested blocks are run in order as they stand there, by a shell in
// which `sudo` and `systemctl` are small stand-ins, on a real relay and a real PostgreSQL; and every
// message it explains is one that the relay has.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { cargoBin } from "../../client-wasm/test/support/relay.mjs";
import { startPostgres } from "./support/postgres.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const guide = readFileSync(join(root, "docs/OPERATING.md"), "utf8");

/** The relay as the unit starts it, and its end. Waits for the one and the other as systemd does. */
const SYSTEMCTL = `#!/bin/bash
set -eu
start() {
  set -a; [ ! -e "$ROOT/etc/zerok-relay/secrets" ] || . "$ROOT/etc/zerok-relay/secrets"; set +a
  cd "$ROOT"
  zerok-relay serve --no-iroh --config "$ROOT/etc/zerok-relay/relay.toml" --data-dir "$ROOT/var/lib/zerok-relay" \\
    --listen "127.0.0.1:$PORT" > "$ROOT/ready" 2>> "$ROOT/log" &
  echo $! > "$ROOT/pid"
  until grep -q ^ready "$ROOT/ready"; do kill -0 "$(cat "$ROOT/pid")"; sleep 0.05; done
}
stop() { kill -TERM "$(cat "$ROOT/pid")"; while kill -0 "$(cat "$ROOT/pid")" 2>/dev/null; do sleep 0.05; done; }
case "$1" in enable | start) start ;; stop) stop ;; restart) stop; start ;; esac
`;

/** Whoever is named is who runs this. */
const SUDO = `#!/bin/bash
while [ "\${1#-}" != "$1" ]; do case "$1" in -u) shift 2 ;; *) shift ;; esac; done
exec "$@"
`;

const blocks = [...guide.matchAll(/^```sh tested\n(.*?)^```$/gms)].map(([, code]) => code);

test("the commands do what they say, from the first run to a restore", { timeout: 180_000 }, async () => {
  const postgres = await startPostgres({ flushes: true });
  const sandbox = mkdtempSync(join(tmpdir(), "zerok-operating-"));
  try {
    const { port: pgPort, username } = new URL(postgres.url);
    const bin = join(sandbox, "bin");
    mkdirSync(bin);
    for (const [name, text] of Object.entries({ sudo: SUDO, systemctl: SYSTEMCTL })) {
      writeFileSync(join(bin, name), text);
      chmodSync(join(bin, name), 0o755);
    }
    const port = await freePort();
    const script = blocks
      .join("\n")
      .replaceAll(/\/(etc|var\/lib|var\/backups)\//g, `${sandbox}/$1/`)
      .replaceAll("127.0.0.1/zerok_relay", `127.0.0.1:${pgPort}/zerok_relay`)
      .replaceAll("127.0.0.1:8080", `127.0.0.1:${port}`);
    const { code, output } = await bash(`cd ${sandbox}; mkdir -p var/lib var/backups\nset -xeuo pipefail\n${script}`, {
      ...process.env,
      PATH: [bin, dirname(cargoBin("zerok-relay")), psqlFolder(), process.env.PATH].join(":"),
      ROOT: sandbox,
      PORT: String(port),
      ZEROK_RELAY_LISTEN: `127.0.0.1:${port}`,
      PGHOST: "127.0.0.1",
      PGPORT: pgPort,
      PGUSER: username,
      PGDATABASE: "postgres",
    });
    assert.equal(code, 0, output);
    assert.match(output, /restored 0 logs/);
    assert.match(output, /^ready$/m);
  } finally {
    stopRelay(sandbox);
    rmSync(sandbox, { recursive: true, force: true });
    postgres.stop();
  }
});

test("every message that is explained is one that the relay says", () => {
  const table = guide.slice(guide.indexOf("| it says |"));
  const messages = [...table.matchAll(/^\| `([^`]+)` \|/gm)].map(([, message]) => message);
  assert.ok(messages.length > 15);
  // As one text, without the ends of lines that the source has in the middle of sentences.
  const source = readdirSync(join(root, "relay/src"), { recursive: true })
    .filter((name) => name.endsWith(".rs"))
    .map((name) => readFileSync(join(root, "relay/src", name), "utf8"))
    .join("\n")
    .replaceAll(/\\\n\s*/g, "");
  assert.deepEqual(messages.filter((message) => !source.includes(message)), []);
});

test("the links lead to files of this repository", () => {
  const links = [...guide.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, path]) => path);
  assert.ok(links.length > 4);
  for (const path of links) assert.doesNotThrow(() => readFileSync(join(root, "docs", path)), path);
});

function bash(script, env) {
  return new Promise((resolve, reject) => {
    const child = spawn("bash", ["-c", script], { env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
    child.once("error", reject);
    child.once("exit", (code) => resolve({ code, output }));
  });
}

function stopRelay(sandbox) {
  try {
    process.kill(Number(readFileSync(join(sandbox, "pid"), "utf8")), "SIGKILL");
  } catch {
    // It was stopped, or never started.
  }
}

function psqlFolder() {
  const versions = "/usr/lib/postgresql";
  try {
    return join(versions, readdirSync(versions).sort().at(-1), "bin");
  } catch {
    return "";
  }
}

async function freePort() {
  const { createServer } = await import("node:net");
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
