// How many tests a runner ran, by its own closing lines.

/** Sums over all test binaries that `cargo test` ran. */
export function countCargoTest(output) {
  const counts = { passed: 0, failed: 0 };
  for (const [, passed, failed] of output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed;/gm)) {
    counts.passed += Number(passed);
    counts.failed += Number(failed);
  }
  return counts;
}

/** Sums over all runs of Node's test runner, in its `tap` or its `spec` form. */
export function countNodeTest(output) {
  const sum = (label) => [...output.matchAll(new RegExp(`^(?:#|ℹ) ${label} (\\d+)$`, "gm"))].reduce((total, [, count]) => total + Number(count), 0);
  // What was cancelled (a timeout, an unfinished promise) did not pass either.
  return { passed: sum("pass"), failed: sum("fail") + sum("cancelled") };
}
