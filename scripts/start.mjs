// npm start: builds what is missing, then runs the relay and the demo. What follows `--` goes to
// the relay: npm start -- --store postgres://…

import { relative } from "node:path";

import { buildBinaries, buildClient, buildDemo } from "./lib/build.mjs";
import { binary, webRoot } from "./lib/paths.mjs";
import { isTaken, relayAddress } from "./lib/relay-address.mjs";
import { MissingRequirement, requireNode, requireNpmPackages, requireRust } from "./lib/requirements.mjs";
import { serve } from "./lib/serve.mjs";

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

async function runRelay(relayArgs) {
  const command = relative(process.cwd(), binary("zerok"));
  say("starting the relay; Ctrl-C stops it");
  console.log(`  from another terminal:  ${command.includes("/") ? command : `./${command}`} --help`);
  console.log(`  or:                     cargo run -q -p zerok-sync --bin zerok -- --help\n`);
  try {
    process.exit(await serve(binary("zerok-relay"), ["--web-root", webRoot, ...relayArgs]));
  } catch (error) {
    fail(`The relay could not be started: ${error.message}.`);
  }
}

function fail(sentence) {
  console.error(`\n✗ ${sentence}`);
  process.exit(1);
}

const relayArgs = process.argv.slice(2);
try {
  await prepare(relayArgs);
  await runRelay(relayArgs);
} catch (error) {
  if (!(error instanceof MissingRequirement)) throw error;
  fail(error.message);
}
