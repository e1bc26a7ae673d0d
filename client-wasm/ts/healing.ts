// Comparing the relays with what this device has, and putting right what they lost.

import type { KeyRange } from "./bridge.js";
import type { Device, OpenGroup } from "./device.js";
import { callCore, ZerokError } from "./error.js";
import type { GroupStatus, IntegrityFinding, RelayStatus } from "./status.js";
import { CoreAudit } from "./zerok_sync_wasm.js";

/** Bytes of rows that are examined at a time: each entry's signature is, and the page waits meanwhile. */
const PAGE_BYTES_MAX = 256 * 1024;

/** What came of comparing one relay. */
export interface ComparedRelay {
  /** Its origin. */
  readonly url: string;
  /** Whether its log was read from its first entry and compared with what this device has read there. */
  readonly compared: boolean;
  /** Why not, such as `unreachable`. */
  readonly problem: ZerokError | undefined;
}

/** What came of repairing one relay. */
export interface RepairedRelay extends ComparedRelay {
  /** Entries that were put back there meanwhile. */
  readonly putBack: number;
  /** Whether it has everything this device has. If not although it was compared, it does not keep what it is given. */
  readonly hasEverything: boolean;
}

/** What `verify` found. */
export interface VerifyReport {
  /** How many entries stored on this device were examined. */
  readonly entries: number;
  /** What is wrong, here or at a relay, and what was found wrong earlier and is not put right; empty if all is well. */
  readonly findings: readonly IntegrityFinding[];
  /** The group's relays, the home relay first. */
  readonly relays: readonly ComparedRelay[];
}

/**
 * See `Client.verify`.
 *
 * @internal
 */
export async function verify(device: Device, signal: AbortSignal | undefined): Promise<VerifyReport> {
  const group = device.openOrThrow();
  const met: IntegrityFinding[] = [];
  const stop = device.emitter.on("integrity", (finding) => met.push(finding));
  try {
    const { relays } = await untilSettled(device, group, () => group.core.verifyRelays(), signal);
    const { entries, findings } = await audit(device, group, signal);
    // What was put right while this went on is told as well.
    const told = new Set(findings.map(textOf));
    return { entries, findings: [...met.filter((finding) => !told.has(textOf(finding))), ...findings], relays: relays.map(compared) };
  } finally {
    stop();
  }
}

/**
 * See `Client.repair`.
 *
 * @internal
 */
export async function repair(device: Device, signal: AbortSignal | undefined): Promise<readonly RepairedRelay[]> {
  const group = device.openOrThrow();
  const before = new Map(device.groupStatus()?.relays.map(({ url, putBack }) => [url, putBack]));
  const { relays } = await untilSettled(device, group, () => group.core.repair(), signal);
  return relays.map((relay) => ({
    ...compared(relay),
    putBack: relay.putBack - (before.get(relay.url) ?? 0),
    hasEverything: relay.hasEverything,
  }));
}

/** Has every relay's log read again, and waits until that is done wherever there is a relay to do it with. */
async function untilSettled(
  device: Device,
  { host }: OpenGroup,
  begin: () => void,
  signal: AbortSignal | undefined,
): Promise<GroupStatus> {
  if (signal?.aborted) throw new ZerokError("cancelled", "cancelled");
  callCore(begin);
  // Whoever waits to be tried again is tried now: so what keeps this device from it is nothing of old.
  host.wake();
  const status = await device.until(({ relays, outboxCount }) => {
    const isDone = (relay: RelayStatus) => relay.settled || isAway(relay);
    return relays.every(isDone) && (outboxCount === 0 || relays.some(isAway));
  }, signal);
  const refusal = status.relays.find(({ problem }) => problem !== undefined && problem.code !== "unreachable")?.problem;
  if (refusal !== undefined && !status.relays.some(({ settled }) => settled)) throw refusal;
  return status;
}

/** Nothing is to be had from it now, and why is known. While it is tried again it may yet be there. */
function isAway({ connection, problem, settled }: RelayStatus): boolean {
  const tried = connection === "connecting" || connection === "handshaking" || connection === "catching_up";
  return !settled && !tried && problem !== undefined;
}

function compared({ url, settled, problem }: RelayStatus): ComparedRelay {
  return { url, compared: settled, problem: settled ? undefined : problem };
}

/** Examines all entries that are stored here. */
async function audit(
  device: Device,
  group: OpenGroup,
  signal: AbortSignal | undefined,
): Promise<{ entries: number; findings: readonly IntegrityFinding[] }> {
  const goesOn = () => {
    if (signal?.aborted) throw new ZerokError("cancelled", "cancelled");
    if (device.group !== group) throw device.stoppedBy ?? new ZerokError("closed", "this client was closed");
  };
  goesOn();
  const { from, to }: KeyRange = CoreAudit.range();
  const auditing = callCore(() => CoreAudit.begin(group.core));
  try {
    for (let next = from; ; ) {
      const rows = await device.storage.scan(next, to, PAGE_BYTES_MAX).catch((error: unknown) => {
        // Closing the client closes the database under a page being read.
        goesOn();
        throw error;
      });
      goesOn();
      callCore(() => auditing.examine(group.core, rows));
      const last = rows.keys.at(-1);
      if (last === undefined) break;
      // The key behind it.
      next = new Uint8Array([...last, 0]);
    }
  } catch (error) {
    auditing.free();
    throw error;
  }
  return callCore(() => auditing.finish());
}

const textOf = (finding: IntegrityFinding) => JSON.stringify(finding);
