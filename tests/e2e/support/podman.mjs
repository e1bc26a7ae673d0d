// Images and containers of a test, in a storage of its own that is gone afterwards.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const COMMAND_MS_MAX = 120_000;

const isInstalled = (program) => spawnSync(program, ["--version"], { stdio: "ignore" }).status === 0;

/** Whether containers can be made here, or the words that say why not. */
export function whyNoContainers() {
  if (process.platform !== "linux") return "containers need Linux";
  return isInstalled("podman") ? undefined : "podman is not installed (Debian: apt-get install podman runc)";
}

/** Podman with a storage of its own, removed by `remove()`. */
export function makePodman() {
  const directory = mkdtempSync(join(tmpdir(), "zerok-podman-"));
  const place = ["--root", join(directory, "storage"), "--runroot", join(directory, "run"), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
  // crun refuses machines whose control groups are of both versions.
  const runtime = isInstalled("runc") ? ["--runtime", "runc"] : [];

  function podman(...args) {
    const { status, stdout, stderr } = spawnSync("podman", [...place, ...runtime, ...args], { encoding: "utf8", timeout: COMMAND_MS_MAX });
    return { status, stdout: stdout ?? "", stderr: stderr ?? "" };
  }

  return {
    /** A command and its end, whichever it is. */
    try: podman,
    /** A command that must end well; its output. */
    run(...args) {
      const { status, stdout, stderr } = podman(...args);
      if (status !== 0) throw new Error(`podman ${args.join(" ")} ended with ${status}:\n${stderr}`);
      return stdout.trim();
    },
    remove() {
      podman("rm", "--all", "--force", "--volumes", "--time", "0");
      podman("rmi", "--all", "--force");
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
