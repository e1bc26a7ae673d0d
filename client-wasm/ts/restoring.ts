// Recovery words: making them good, and coming back with nothing else.

import { Arrival } from "./arrival.js";
import type { Device } from "./device.js";
import { asZerokError, callCore, ZerokError } from "./error.js";
import { randomBytes } from "./storage.js";
import { CoreRestorer } from "./zerok_sync_wasm.js";

/**
 * See `Client.createRecovery`.
 *
 * @internal
 */
export async function createRecovery(device: Device, words: string | readonly string[]): Promise<void> {
  const text = textOf(words);
  const paper = callCore(() => device.openOrThrow().core.enrolRecovery(text));
  await device.until(({ recovery, members }) => {
    if (recovery === "under_way") return false;
    if (recovery === "ready" && members.some((member) => member.device === paper)) return true;
    throw new ZerokError("words_replaced", "another device made newer recovery words, or removed these: they are void");
  });
}

/**
 * See `Client.restore`.
 *
 * @internal
 */
export function restore(device: Device, words: string | readonly string[], signal: AbortSignal | undefined): Promise<void> {
  // Nothing here holds the words while the log is read, which may take long.
  return comeByWords(device, words, signal).then(() => readBack(device, signal));
}

/** Stores a new membership that the words vouch for, and goes online with it. */
async function comeByWords(device: Device, words: string | readonly string[], signal: AbortSignal | undefined): Promise<void> {
  device.expectEmpty();
  device.enter("joining");
  const text = textOf(words);
  try {
    const { relay, options: { relayKey } } = device;
    const restoring = new Arrival(device.storage, (host) =>
      CoreRestorer.open(host, device.storeKey, randomBytes(32), text, relay, relayKey, device.name),
    );
    device.arrival = restoring;
    await restoring.run(signal);
    device.isReadingBack = true;
    await device.openNewGroup();
  } catch (error) {
    device.isReadingBack = false;
    throw device.backToEmpty(error);
  } finally {
    device.arrival = undefined;
  }
}

/** Waits until the log has shown all that the words vouch for, and has this device. */
async function readBack(device: Device, signal: AbortSignal | undefined): Promise<void> {
  try {
    await device.until(() => callCore(() => device.openOrThrow().core.restored()), signal);
  } catch (error) {
    // If that fails, this client must not take the storage for empty.
    await device.forgetGroup().catch((failure: unknown) => device.stop(asZerokError(failure)));
    throw asZerokError(error);
  } finally {
    device.isReadingBack = false;
  }
}

function textOf(words: string | readonly string[]): string {
  return typeof words === "string" ? words : words.join(" ");
}
