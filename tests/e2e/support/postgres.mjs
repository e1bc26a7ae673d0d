// A throw-away PostgreSQL cluster: made by `initdb` in a temporary directory, on a private port.

import { spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

const VERSIONS = "/usr/lib/postgresql";

/**
 * Starts a cluster; answers the URL of an empty database.
 *
 * @param {object} options
 * @param {boolean} [options.flushes] whether commits reach the disk, as in production
 */
export async function startPostgres({ flushes = false } = {}) {
  const bin = binFolder();
  const directory = mkdtempSync(join(tmpdir(), "zerok-pg-"));
  const data = join(directory, "data");
  const user = unprivilegedUser();
  if (user !== undefined) chownSync(directory, user.uid, user.gid);
  const port = await freePort();

  const run = (program, ...args) => {
    // Not a pipe: the server would inherit it and keep it open.
    const { status, error } = spawnSync(join(bin, program), args, { cwd: directory, stdio: "ignore", ...user });
    if (status !== 0) throw new Error(`${program} failed: ${error?.message ?? `exit code ${status}`}`);
  };
  run("initdb", "-D", data, "-U", "zerok", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync");
  run("pg_ctl", "-D", data, "-w", "-o", `-c listen_addresses=127.0.0.1 -c port=${port} -c unix_socket_directories='${directory}' -c fsync=${flushes ? "on" : "off"}`, "start");
  return {
    url: `postgres://zerok@127.0.0.1:${port}/postgres`,
    stop() {
      run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop");
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function binFolder() {
  const installed = existsSync(VERSIONS) ? readdirSync(VERSIONS).sort().reverse() : [];
  const folders = [...installed.map((version) => join(VERSIONS, version, "bin")), ...(process.env.PATH ?? "").split(delimiter)];
  const found = folders.find((folder) => ["initdb", "pg_ctl"].every((program) => existsSync(join(folder, program))));
  if (found === undefined) throw new Error("PostgreSQL 15 or later is not installed: install it (Debian: apt-get install postgresql)");
  return found;
}

/** PostgreSQL refuses to run as root. */
function unprivilegedUser() {
  if (process.getuid?.() !== 0) return undefined;
  const id = (...args) => Number(spawnSync("id", args, { encoding: "utf8" }).stdout.trim() || Number.NaN);
  const user = ["postgres", "nobody"].map((name) => ({ uid: id("-u", name), gid: id("-g", name) })).find(({ uid }) => uid > 0);
  if (user === undefined) throw new Error("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody");
  return user;
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
