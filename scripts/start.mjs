// npm start: builds what is missing, then runs the relay and the demo. What follows `--` goes to
// the relay: npm start -- --store postgres://…

import { spawn } from "node:child_process";
import { relative } from "node:path";

import { buildBinaries, buildClient, buildDemo } from "./lib/build.mjs";
import { binary, webRoot } from "./lib/paths.mjs";
import { isTaken, relayAddress } from "./lib/relay-address.mjs";
import { MissingRequirement, requireNode, requireNpmPackages, requireRust } from "./lib/requirements.mjs";

const say = (text) => console.log(`\n▸ ${text}`);

async function prepare(relayArgs) {
  requireNode();
  const address = relayAddress(relayArgs, process.env);
  if (await isTaken(address)) {
    throw new MissingRequirement(
      `${address} is in use by another program: stop that, or choose another port: npm start -- --listen 127.0.0.1:8081`,
    );
  }
  await requireRust({ say });
  await requireNpmPackages({ say });
  for (const [what, build] of [
    ["building the relay and the command line (some minutes the first time)", buildBinaries],
    ["building the browser package", buildClient],
    ["building the demo", buildDemo],
  ]) {
    say(what);
    const { ok } = await build({});
    if (!ok) throw new MissingRequirement("The build failed; the reason stands above.");
  }
}

function serve(relayArgs) {
  const command = relative(process.cwd(), binary("zerok"));
  say("starting the relay; Ctrl-C stops it");
  console.log(`  from another terminal:  ${command.includes("/") ? command : `./${command}`} --help`);
  console.log(`  or:                     cargo run -q -p zerok-sync --bin zerok -- --help\n`);
  const relay = spawn(binary("zerok-relay"), ["--web-root", webRoot, ...relayArgs], { stdio: "inherit" });
  // The terminal's Ctrl-C reaches the relay by itself; a signal sent to us alone does not.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => relay.kill("SIGTERM"));
  // npm, told to stop, ends the shell between it and us, and we hear nothing of it.
  const parent = process.ppid;
  setInterval(() => process.ppid !== parent && relay.kill("SIGTERM"), 500).unref();
  relay.once("error", (error) => fail(`The relay could not be started: ${error.message}.`));
  relay.once("exit", (code) => process.exit(code ?? 1));
}

function fail(sentence) {
  console.error(`\n✗ ${sentence}`);
  process.exit(1);
}

const relayArgs = process.argv.slice(2);
try {
  await prepare(relayArgs);
  serve(relayArgs);
} catch (error) {
  if (!(error instanceof MissingRequirement)) throw error;
  fail(error.message);
}
