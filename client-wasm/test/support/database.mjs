// What somebody does by hand to a relay's database.

import { execFileSync } from "node:child_process";
import { join } from "node:path";

import { cargoBin } from "./relay.mjs";

/** Runs one statement on the database of a relay that does not run; how many rows it changed. */
export function editDatabase(dataDir, statement) {
  const changed = execFileSync(cargoBin("zerok-edit-database"), [join(dataDir, "relay.db"), statement], { encoding: "utf8" });
  return Number(changed);
}
