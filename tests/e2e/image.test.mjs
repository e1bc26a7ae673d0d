// The container image: built from the last stage of deploy/Dockerfile and run as the compose files
// run it. The stage before needs a registry of images; here the relay that was built on this machine
// takes its place, with the libraries that it is linked to.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { cargoBin } from "../../client-wasm/test/support/relay.mjs";
import { makePodman, whyNoContainers } from "./support/podman.mjs";
import { makeTerminal } from "./support/zerok.mjs";

const DOCKERFILE = fileURLToPath(new URL("../../deploy/Dockerfile", import.meta.url));
const IMAGE = "zerok-relay-test";
const USER = 65532;
const READY_MS_MAX = 30_000;

const missing = whyNoContainers();
if (missing !== undefined) console.log(`# NOT TESTED: the container image, because ${missing}`);

describe("the image", { timeout: 240_000, skip: missing && `NOT TESTED: ${missing}` }, () => {
  let podman, build, terminal, port;

  before(async () => {
    build = mkdtempSync(join(tmpdir(), "zerok-image-"));
    fileSystem(join(build, "out"));
    podman = makePodman();
    terminal = makeTerminal();
    port = await freePort();
    const empty = join(build, "empty");
    mkdirSync(empty);
    podman.run("build", "--format", "docker", "--isolation", "chroot", "--build-context", `build=${build}`, "--tag", IMAGE, "--file", DOCKERFILE, empty);
  });

  after(async () => {
    await terminal?.remove();
    podman?.remove();
    rmSync(build, { recursive: true, force: true });
  });

  /** Starts the relay as `deploy/compose.sqlite.yml` does, on the volume `data`. */
  async function start(name) {
    podman.run(
      "run", "--detach", "--name", name, "--network", "host", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all",
      "--security-opt", "no-new-privileges", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--no-healthcheck",
      "--volume", "data:/data", "--env", `ZEROK_RELAY_LISTEN=127.0.0.1:${port}`, "--env", "ZEROK_RELAY_NO_IROH=true", IMAGE,
    );
    // The image's own health check, as often as it takes.
    const deadline = Date.now() + READY_MS_MAX;
    while (podman.try("exec", name, "/usr/bin/zerok-relay", "health").stdout !== "ready\n") {
      if (Date.now() > deadline) throw new Error(`the container is not ready:\n${podman.try("logs", name).stderr}`);
    }
  }

  test("has one program, an unprivileged user and a health check", () => {
    const [{ Config: config, Healthcheck: health }] = JSON.parse(podman.run("image", "inspect", IMAGE));
    assert.deepEqual([config.User, config.Entrypoint], [`${USER}:${USER}`, ["/usr/bin/zerok-relay"]]);
    assert.deepEqual(health.Test, ["CMD", "/usr/bin/zerok-relay", "health"]);
    assert.notEqual(podman.try("run", "--rm", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", "host", "--entrypoint", "/bin/sh", IMAGE, "-c", "true").status, 0);
  });

  test("keeps what was pushed over the end of its container, on a read-only root", async () => {
    const url = `http://127.0.0.1:${port}`;
    await start("first");
    assert.ok((await (await fetch(url)).text()).includes("the page of this test"), "it serves its own pages");
    await terminal.run("a", "init", "--relay", url);
    await terminal.run("a", "push", "kept in a volume", "--wait", "relay");
    podman.run("stop", "first");
    assert.equal(podman.run("inspect", "first", "--format", "{{.State.ExitCode}}"), "0", "SIGTERM ends it in order");

    await start("second");
    await terminal.run("a", "push", "and some more", "--wait", "relay");
    const written = podman.run("inspect", "second", "--format", "{{.HostConfig.ReadonlyRootfs}} {{.EffectiveCaps}}");
    assert.match(written, /^true (?:\[\]|<nil>|<no value>)$/);
    podman.run("stop", "second");
  });
});

/** What the Dockerfile's first stage leaves in /out. */
function fileSystem(out) {
  const put = (from, to) => {
    mkdirSync(dirname(join(out, to)), { recursive: true });
    cpSync(from, join(out, to), { dereference: true });
  };
  const relay = cargoBin("zerok-relay");
  put(relay, "/usr/bin/zerok-relay");
  const { stdout: libraries } = spawnSync("ldd", [relay], { encoding: "utf8" });
  for (const [library] of libraries.matchAll(/\/\S+/g)) put(library, library);
  mkdirSync(join(out, "usr/share/zerok-relay/web"), { recursive: true });
  writeFileSync(join(out, "usr/share/zerok-relay/web/index.html"), "<!doctype html><title>the page of this test</title>");
  for (const [folder, mode] of [["tmp", 0o1777], ["data", 0o700]]) {
    mkdirSync(join(out, folder));
    chmodSync(join(out, folder), mode);
  }
  if (process.getuid() === 0) chownSync(join(out, "data"), USER, USER);
  else chmodSync(join(out, "data"), 0o777);
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
