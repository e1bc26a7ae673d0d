import { ZerokError } from "./error.js";

/**
 * How long a page waits for the lock: a page being reloaded gives its lock up a moment after the
 * new one starts.
 */
const WAIT_MS = 2_000;

/**
 * Makes this page the only one that uses a database, until the returned function is called or the
 * page goes away. Where Web Locks do not exist (plain http to another machine), the database's own
 * fencing still lets only the newest page write.
 */
export async function lockDatabase(name: string): Promise<() => void> {
  const locks = typeof navigator === "undefined" ? undefined : navigator.locks;
  if (locks === undefined) return () => {};
  return new Promise((resolve, reject) => {
    const hold = () => new Promise<void>((release) => resolve(release));
    locks.request(name, { signal: AbortSignal.timeout(WAIT_MS) }, hold).catch((error: unknown) => {
      const inUse = error instanceof DOMException && error.name === "TimeoutError";
      reject(
        inUse
          ? new ZerokError(
              "database_in_use",
              "another tab of this browser has this group open: use that one, or close it and try again",
            )
          : new ZerokError("storage_failed", `this browser does not let this page lock its database: ${String(error)}`),
      );
    });
  });
}
