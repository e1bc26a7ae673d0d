// Coming into a group by an invitation, and bringing along what was written in the one before.

import { Arrival } from "./arrival.js";
import type { KeyRange } from "./bridge.js";
import type { Device, OpenGroup } from "./device.js";
import { asZerokError, callCore, ZerokError } from "./error.js";
import type { GroupOffered, JoinOptions } from "./options.js";
import { randomBytes } from "./storage.js";
import { CoreEngine, CoreFormer, CoreJoiner } from "./zerok_sync_wasm.js";

/** Bytes of rows that are read at a time while entries are brought along. */
const BRING_BYTES = 1024 * 1024;

/**
 * See `Client.join`.
 *
 * @internal
 */
export async function join(device: Device, codeOrLink: string, options: JoinOptions): Promise<void> {
  const { onDigits, onConfirm, bringData = false, signal } = options;
  if (bringData) await leaveForAnother(device);
  else device.expectEmpty();
  device.enter("joining");
  const ask = async ({ inviter, relay, members }: GroupOffered) => {
    let confirmed: boolean;
    try {
      confirmed = onConfirm === undefined || (await onConfirm({ inviter, relay, members })) === true;
    } catch (error) {
      joining?.fail(error instanceof Error ? error : asZerokError(error));
      confirmed = false;
    }
    joining?.answer((joiner) => (confirmed ? joiner.confirm() : joiner.cancel()));
  };
  let joining: Arrival<CoreJoiner> | undefined;
  try {
    const { relay, options: { relayKey } } = device;
    device.arrival = joining = new Arrival(
      device.storage,
      (host) => CoreJoiner.open(host, device.storeKey, randomBytes(32), codeOrLink, relay, relayKey, device.name, bringData),
      (event) => {
        if (event.type === "show_digits") onDigits?.(event.digits);
        if (event.type === "confirm_join") void ask(event);
      },
    );
    await joining.run(signal);
    await device.openNewGroup();
  } catch (error) {
    const thrown = device.backToEmpty(error);
    if (bringData && device.state === "empty") {
      device.storage.replaceNext(false);
      await device.openNewGroup();
    }
    throw thrown;
  } finally {
    device.arrival = undefined;
  }
}

/** Closes the group that this device is alone in, or has left: the next commit replaces it. */
async function leaveForAnother(device: Device): Promise<void> {
  const group = device.openOrThrow();
  const { from, to } = CoreEngine.hotRange();
  const rows = await device.storage.scan(from, to, Number.MAX_SAFE_INTEGER);
  const former = callCore(() => CoreFormer.open(device.storeKey, rows));
  try {
    callCore(() => former.checkFree());
  } finally {
    former.free();
  }
  device.end("empty", new ZerokError("closed", "this device is joining another group"));
  group.core.close();
  await group.host.settle();
  device.storage.replaceNext(true);
}

/**
 * Queues what this device wrote in the group that it joined this one from.
 *
 * @internal
 */
export async function bringAlong(device: Device, { core, pushes }: OpenGroup): Promise<void> {
  const { from, to } = CoreEngine.hotRange();
  const rows = await device.storage.scanFormer(from, to, Number.MAX_SAFE_INTEGER);
  const former = callCore(() => CoreFormer.open(device.storeKey, rows));
  try {
    for (const range of CoreFormer.ranges() as KeyRange[]) {
      for (let next = range.from; ; ) {
        const page = await device.storage.scanFormer(next, range.to, BRING_BYTES);
        const last = page.keys.at(-1);
        if (last === undefined) break;
        next = new Uint8Array([...last, 0]);
        await pushes.stored(callCore(() => former.bring(core, page)));
      }
    }
  } finally {
    former.free();
  }
  callCore(() => core.broughtAll());
}
