// Installs Debian packages, where that can be done without asking anybody: as root, with apt.

import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";

import { ask, run } from "./run.mjs";

/** The machine's own cluster is not ours to make: tests start throw-away ones. */
const CLUSTER_SETTINGS = "/etc/postgresql-common/createcluster.d/zerok-sync.conf";

/** Whether packages can be installed here. */
export function canInstall() {
  return process.platform === "linux" && process.getuid?.() === 0 && ask("apt-get", "--version") !== undefined;
}

/** Installs packages; answers whether that went well. */
export async function install(packages, log) {
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const isOurs = !existsSync(CLUSTER_SETTINGS);
  if (isOurs) {
    mkdirSync("/etc/postgresql-common/createcluster.d", { recursive: true });
    writeFileSync(CLUSTER_SETTINGS, "create_main_cluster = false\n");
  }
  try {
    // A list that cannot be refreshed may still name what is needed.
    await run(["apt-get", "-q", "update"], { env, log });
    const { ok } = await run(["apt-get", "-q", "install", "-y", "--no-install-recommends", ...packages], { env, log });
    return ok;
  } finally {
    if (isOurs) rmSync(CLUSTER_SETTINGS, { force: true });
  }
}
