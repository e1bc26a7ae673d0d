// What a client tells an app that listens: see `Client.on`.

import type { EntryRange, IntegrityFinding, Member, Status } from "./status.js";

/** What `Client.on` can listen to. */
export interface ClientEvents {
  /** Something in `status` changed. */
  status: Status;
  /** A device became a member. */
  member: Pick<Member, "device" | "name">;
  /** A device is no member any more. */
  removed: Pick<Member, "device" | "name">;
  /** Another device that is there said something, which is stored nowhere: see `whisper`. */
  whisper: Whisper;
  /** The log has outgrown its snapshot: `compact` makes it shorter for whoever joins. */
  compact: CompactionAdvice;
  /**
   * This device was away for longer than a relay keeps the log: the entry at this position is a
   * snapshot, which replaces the app's state. What it does not hold comes behind it.
   */
  reset: { readonly position: number };
  /**
   * Entries that nobody has any more were given up, by a person at one of the devices (see
   * `acceptGaps`): this one goes on with what their sender wrote behind them.
   */
  givenUp: EntryRange;
  /** A relay or a member did something an honest one does not do. */
  integrity: IntegrityFinding;
  /**
   * What this device has is compared with what a relay has, which gets back what it lacks: after it has
   * lost something, or because of `repair`. Comes at the end of a `verify` too, which puts nothing back.
   */
  repairing: RepairProgress;
  /**
   * A relay admits a device that no member is: one that is being let in, or one that the relay has put
   * there. It reads nothing, and `rotate` shuts it out.
   */
  unknownDevice: UnknownDevice;
  warning: Warning;
}

/** Something the app's user may want to know, though the client goes on. */
export interface Warning {
  /** `memory_only`: the browser gives no database, everything is gone with the page. */
  readonly code: "memory_only";
  readonly message: string;
}

/** Something that another device said to whoever is there. */
export interface Whisper {
  /** Who said it: its identity in this group, as hex. */
  readonly device: string;
  readonly data: Uint8Array;
}

/** How far comparing and putting back has come at one relay. */
export interface RepairProgress {
  /** The relay's origin. */
  readonly relay: string;
  /** Entries compared so far. */
  readonly examined: number;
  /** Entries put back so far. */
  readonly uploaded: number;
  /** Nothing is left to do. */
  readonly done: boolean;
}

/** A device that a relay admits. */
export interface UnknownDevice {
  /** The relay's origin. */
  readonly relay: string;
  /** The device's Noise key as hex: all that the relay knows it by. */
  readonly noiseKey: string;
}

/** Why a snapshot is worth making. */
export interface CompactionAdvice {
  /** Bytes that came since the last one. */
  readonly logBytes: number;
  /** Bytes of that. */
  readonly snapshotBytes: number;
}
