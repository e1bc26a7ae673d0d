import type { Arrival } from "./arrival.js";
import type { CoreEvent } from "./bridge.js";
import { Deferred } from "./deferred.js";
import { Emitter } from "./emitter.js";
import { Doorbell } from "./entries.js";
import { asZerokError, callCore, ZerokError } from "./error.js";
import type { ClientEvents } from "./events.js";
import { init } from "./init.js";
import type { PendingInvitation } from "./invitation.js";
import { bringAlong } from "./joining.js";
import { lockDatabase } from "./lock.js";
import { MachineHost } from "./machine-host.js";
import { openStorage } from "./open-storage.js";
import type { ClientOptions } from "./options.js";
import { Pushes } from "./pushes.js";
import type { GroupStatus, Status } from "./status.js";
import { randomBytes, type Storage } from "./storage.js";
import { Tier } from "./tier.js";
import { watchForWake } from "./wake.js";
import { CoreEngine, type CoreJoiner, type CoreRestorer, unlockStoreKey } from "./zerok_sync_wasm.js";

/**
 * The group this device is in: its engine, and who waits for what.
 *
 * @internal
 */
export interface OpenGroup {
  readonly core: CoreEngine;
  readonly host: MachineHost<CoreEngine>;
  readonly pushes: Pushes;
  readonly processed: Tier;
  readonly doorbell: Doorbell;
}

/**
 * What stands behind a `Client`: the database, and the group in it once there is one. It goes from
 * `empty` over `joining` to `open`; `stopped` and `closed` are ends, at which the database is free.
 *
 * @internal
 */
export class Device {
  readonly options: Omit<ClientOptions, "passphrase">;
  readonly storage: Storage;
  storeKey: Uint8Array;
  readonly emitter = new Emitter<ClientEvents>();
  state: Status["state"] = "empty";
  stoppedBy: ZerokError | undefined;
  group: OpenGroup | undefined;
  arrival: Arrival<CoreJoiner> | Arrival<CoreRestorer> | undefined;
  invitation: PendingInvitation | undefined;
  /** A restore is not over: what is here may be dropped yet. */
  isReadingBack = false;
  readonly #unlock: () => void;
  readonly #stopWatching: () => void;

  private constructor(options: ClientOptions, storage: Storage, unlock: () => void) {
    // Not kept: the key is here.
    const { passphrase, ...kept } = options;
    this.storeKey = callCore(() => unlockStoreKey(storage.storedKey, passphrase));
    this.options = kept;
    this.storage = storage;
    this.#unlock = unlock;
    this.#stopWatching = watchForWake(() => {
      this.group?.host.wake();
      this.arrival?.wake();
    });
    if (options.onWarning !== undefined) this.emitter.on("warning", options.onWarning);
  }

  /** See `Client.open`. */
  static async open(options: ClientOptions): Promise<Device> {
    await init();
    const name = `0k-sync/${options.database ?? "default"}`;
    const unlock = await lockDatabase(name);
    let device: Device | undefined;
    let storage: Storage | undefined;
    try {
      storage = await openStorage(name, (error) => {
        if (device !== undefined) device.stop(error);
      });
      device = new Device(options, storage, unlock);
      if (storage.kind === "memory") {
        device.emitter.emit("warning", {
          code: "memory_only",
          message: "this browser gives this page no database: everything is gone when the page is closed",
        });
      }
      await device.openGroup().catch((error: unknown) => {
        if (!(error instanceof ZerokError && error.code === "no_group")) throw error;
        // What an import left that came to nothing.
        return storage?.clear();
      });
      // A restore that was cut off: nothing was written in its name, and nothing vouches for what is here.
      if (device.group?.core.isRestoring()) await device.forgetGroup();
      return device;
    } catch (error) {
      if (device !== undefined) device.#stopWatching();
      storage?.close();
      unlock();
      throw asZerokError(error);
    }
  }

  get name(): string {
    return this.options.name ?? "browser";
  }

  /** Where groups are made, and codes looked for. */
  get relay(): string {
    const { relay } = this.options;
    const url = URL.canParse(relay) ? new URL(relay) : undefined;
    if (url?.protocol === "https:" || url?.protocol === "http:") return url.origin;
    throw new ZerokError("invalid_argument", `"${relay}" is no relay's address: it should look like https://relay.example`);
  }

  /** Where it stands now. */
  get status(): Status {
    return {
      state: this.state,
      storage: this.storage.kind,
      group: this.groupStatus(),
      stoppedBy: this.stoppedBy,
    };
  }

  groupStatus(): GroupStatus | undefined {
    if (this.group === undefined) return undefined;
    const { problem, relays, ...rest } = this.group.core.status();
    return {
      ...rest,
      relays: relays.map((relay) => ({ ...relay, problem: relay.problem && ZerokError.from(relay.problem) })),
      problem: problem && ZerokError.from(problem),
    };
  }

  openOrThrow(): OpenGroup {
    if (this.group !== undefined) return this.group;
    throw (
      this.stoppedBy ??
      (this.state === "closed"
        ? new ZerokError("closed", "this client was closed: open another")
        : new ZerokError("no_group", "there is no group here yet: create one or join one"))
    );
  }

  expectEmpty(): void {
    if (this.state === "empty") return;
    if (this.state === "open") {
      throw new ZerokError("already_in_group", "this device is in a group already: open another database for another");
    }
    if (this.state === "joining") throw new ZerokError("busy", "this device is being added to a group already");
    this.openOrThrow();
  }

  enter(state: Status["state"]): void {
    this.state = state;
    this.#tellStatus();
  }

  backToEmpty(error: unknown): ZerokError {
    if (this.state === "joining") this.enter("empty");
    return error instanceof DOMException && error.name === "AbortError"
      ? new ZerokError("cancelled", "cancelled")
      : asZerokError(error);
  }

  /** Opens the engine on what storage holds and goes online. */
  async openGroup(): Promise<void> {
    const { from, to } = CoreEngine.hotRange();
    const rows = await this.storage.scan(from, to, Number.MAX_SAFE_INTEGER);
    if (this.state === "closed") throw new ZerokError("closed", "this client was closed");
    const host = new MachineHost<CoreEngine>(
      this.storage,
      (events) => this.#onEvents(events),
      (error) => this.stop(error),
    );
    const core = host.attach(
      callCore(() => CoreEngine.open(host, this.storeKey, randomBytes(32), rows)),
    );
    callCore(() => core.setMirrorPolicy(this.options.mirror ?? "own"));
    const { position, processed, everywherePush } = core.status();
    const pushes = new Pushes(everywherePush);
    this.group = { core, host, doorbell: new Doorbell(position), pushes, processed: new Tier(processed) };
    if (core.isBringing()) await bringAlong(this, this.group);
    callCore(() => core.start());
    this.enter("open");
  }

  /** Opens a group just stored. If that fails, this client must not take the storage for empty. */
  async openNewGroup(): Promise<void> {
    try {
      await this.openGroup();
    } catch (error) {
      this.stop(asZerokError(error));
      throw error;
    }
  }

  /** Empties the storage: what was stored is not known to be the group that was meant. */
  async forgetGroup(): Promise<void> {
    const group = this.group;
    if (group === undefined) return;
    this.end("joining", new ZerokError("closed", "the restore failed: nothing of it was kept"));
    group.core.close();
    await group.host.settle();
    // Whoever closed the client meanwhile finds this left over, and dropped, at the next opening.
    if (this.state !== "joining") return;
    await this.storage.clear();
    if (this.state === "joining") this.enter("empty");
  }

  /** Waits for a status of the group, and resolves to it; what the relay says against this device ends the wait. */
  until(reached: (status: GroupStatus) => boolean, signal?: AbortSignal): Promise<GroupStatus> {
    const done = new Deferred<GroupStatus>();
    const cancel = () => done.reject(new ZerokError("cancelled", "cancelled"));
    const look = () => {
      const group = this.groupStatus();
      let ended: boolean;
      try {
        ended = group !== undefined && reached(group);
      } catch (error) {
        return done.reject(asZerokError(error));
      }
      if (group === undefined) done.reject(this.stoppedBy ?? new ZerokError("closed", "this client was closed"));
      else if (ended) done.resolve(group);
      else if (group.problem?.code === "revoked" || group.problem?.code === "left") done.reject(group.problem);
    };
    const stop = this.emitter.on("status", look);
    signal?.addEventListener("abort", cancel);
    if (signal?.aborted) cancel();
    look();
    return done.promise.finally(() => {
      signal?.removeEventListener("abort", cancel);
      stop();
    });
  }

  /** Says good-bye to the relay and gives the database up. What was pushed stays in the outbox. */
  async close(): Promise<void> {
    if (this.state === "closed") return;
    const group = this.group;
    this.end("closed", new ZerokError("closed", "this client was closed"));
    if (group !== undefined) {
      try {
        group.core.close();
        await group.host.settle();
      } catch {
        group.host.stop();
      }
    }
    this.#giveUpDatabase();
  }

  /** The group cannot go on in this run: memory may be ahead of what is on disk. */
  stop(error: ZerokError): void {
    if (this.state === "stopped" || this.state === "closed") return;
    const group = this.group;
    this.stoppedBy = error;
    this.end("stopped", error);
    group?.host.stop();
    this.#giveUpDatabase();
  }

  /** Tells everybody who waits for something that it will not come. */
  end(state: Exclude<Status["state"], "open">, error: ZerokError): void {
    const group = this.group;
    this.group = undefined;
    group?.doorbell.end(state === "stopped" ? error : undefined);
    group?.pushes.end(error);
    group?.processed.refuseAll(error);
    this.invitation?.fail(error);
    this.arrival?.fail(error);
    this.enter(state);
  }

  #onEvents(events: readonly CoreEvent[]): void {
    const group = this.group;
    if (group === undefined) return;
    for (const event of events) {
      switch (event.type) {
        case "entries_available":
          group.doorbell.ring(event.position);
          break;
        case "processed_stored":
          group.processed.reached(event.position);
          break;
        case "snapshot_queued":
          group.pushes.onSnapshot(event.push);
          break;
        case "reset":
          this.emitter.emit("reset", { position: event.position });
          break;
        case "compaction_advised":
          this.emitter.emit("compact", { logBytes: event.logBytes, snapshotBytes: event.snapshotBytes });
          break;
        case "pushes_stored":
          group.pushes.onStored(event.push);
          break;
        case "pushes_acked":
          group.pushes.onAcked(event.push);
          break;
        case "pushes_everywhere":
          group.pushes.onEverywhere(event.push);
          break;
        case "whispered":
          this.emitter.emit("whisper", { device: event.device, data: event.data });
          break;
        case "push_refused":
          group.pushes.onRefused(event.push, ZerokError.from(event.failure));
          break;
        case "member_joined":
          this.emitter.emit("member", { device: event.device, name: event.name });
          break;
        case "member_removed":
          this.emitter.emit("removed", { device: event.device, name: event.name });
          break;
        case "entries_given_up":
          this.emitter.emit("givenUp", { device: event.device, fromSeq: event.fromSeq, toSeq: event.toSeq });
          break;
        case "integrity":
          this.emitter.emit("integrity", event.finding);
          break;
        case "repairing": {
          const { type, ...progress } = event;
          this.emitter.emit("repairing", progress);
          break;
        }
        case "unknown_device_at_relay":
          this.emitter.emit("unknownDevice", { relay: event.relay, noiseKey: event.noiseKey });
          break;
        case "storage_failed":
          this.stop(ZerokError.from(event.failure));
          return;
        default:
          this.invitation?.handle(event);
      }
    }
    this.#tellStatus();
  }

  #tellStatus(): void {
    if (this.emitter.hears("status")) this.emitter.emit("status", this.status);
  }

  #giveUpDatabase(): void {
    this.#stopWatching();
    this.storage.close();
    this.#unlock();
  }
}
