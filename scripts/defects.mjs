// Plants each defect of tests/defects.json, one at a time, and sees the test that it names fail:
//   node scripts/defects.mjs [ROW …]        e.g. node scripts/defects.mjs B-FORK D-REC-01
// A file is put back as it was whatever happens; start from a clean checkout all the same.

import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { root } from "./lib/paths.mjs";

const wanted = new Set(process.argv.slice(2).map((row) => row.toUpperCase()));
const all = JSON.parse(readFileSync(join(root, "tests/defects.json"), "utf8"));
const unknown = [...wanted].filter((row) => !all.some((one) => one.row === row));
if (unknown.length > 0) {
  console.error(`no such row in tests/defects.json: ${unknown.join(", ")}`);
  process.exit(2);
}

/** What cargo's end and words say of the planted defect. */
function outcome({ status, stdout }) {
  if (/test result: FAILED/.test(stdout)) return "found";
  if (status === 0) return /[1-9]\d* passed/.test(stdout) ? "NOT FOUND" : "NO SUCH TEST";
  return "DOES NOT BUILD";
}

let wrong = 0;
for (const { row, test, package: crate, target, file, check, without } of all) {
  if (file === undefined || (wanted.size > 0 && !wanted.has(row))) continue;
  const path = join(root, file);
  const sound = readFileSync(path, "utf8");
  if (sound.split(check).length !== 2) throw new Error(`${file} does not hold exactly once: ${check}`);
  const restore = () => writeFileSync(path, sound);
  const interrupted = () => (restore(), process.exit(130));
  process.once("SIGINT", interrupted);
  let said;
  try {
    writeFileSync(path, sound.replace(check, () => without));
    const name = test.split("::").at(-1);
    said = outcome(spawnSync("cargo", ["test", "-p", crate, ...target, "--", name], { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 }));
  } finally {
    restore();
    process.off("SIGINT", interrupted);
  }
  wrong += said === "found" ? 0 : 1;
  console.log(`${row}\t${said}\t${test}`);
}
process.exit(wrong === 0 ? 0 : 1);
