import type { ZerokError } from "./error.js";

/** Where the connection to the relay stands. */
export type Connection = "offline" | "connecting" | "handshaking" | "catching_up" | "live" | "waiting_to_retry";

/** A device of the group. */
export interface Member {
  /** Its identity in this group, as hex. */
  readonly device: string;
  /** What it calls itself. Untrusted text. */
  readonly name: string;
  /** Whether it is this device. */
  readonly own: boolean;
  /** Its clock when it joined, Unix milliseconds. */
  readonly joinedAt: number;
  /** Its clock when it wrote the latest entry that is here. */
  readonly lastWroteAt: number | undefined;
  /** Its clock when it signed the latest entry or receipt that is here: no relay can make it newer. */
  readonly lastHeardAt: number | undefined;
  /** Another device that was not heard from for a day: off, or a relay keeps back what it sends. */
  readonly stale: boolean;
  /** It is there now, by its own word. */
  readonly online: boolean;
  /** The highest push number of this device that it has said it has. */
  readonly hasPush: number;
  /** It has said that it leaves. */
  readonly leaving: boolean;
  /** It is no device: it is the recovery words. */
  readonly paper: boolean;
}

/** A device that was let in from here and has not arrived: `rotate` takes that back. */
export interface GrantedDevice {
  /** Its identity in this group, as hex. */
  readonly device: string;
  /** What it calls itself. Untrusted text. */
  readonly name: string;
}

/** One of the relays that carry the group's log. */
export interface RelayStatus {
  /** Its origin. */
  readonly url: string;
  /** Its pinned Noise key as hex, once known. */
  readonly key: string | undefined;
  readonly connection: Connection;
  /** Whether the group was told of it; before, this device is still to meet it. */
  readonly listed: boolean;
  /** It has everything this device has, as far as is known, and nothing is being compared or put back there. */
  readonly settled: boolean;
  /** What `repair` put back last did not stand there afterwards: its operator should look after its database. */
  readonly unhealed: boolean;
  /** Entries that this device has put back there in this run. */
  readonly putBack: number;
  /** Whether it has everything this device has, as far as is known: settled, and not unhealed. */
  readonly hasEverything: boolean;
  /** What keeps this device from it. */
  readonly problem: ZerokError | undefined;
}

/** A relay or a member did something an honest one does not do. */
export interface IntegrityFinding {
  /** The core's name for it, such as `rolled_back`. */
  readonly kind: string;
  /** The evidence: cursors, sequence numbers, hex ids. */
  readonly evidence: Readonly<Record<string, number | string>>;
}

/** Entries of one device. */
export interface EntryRange {
  /** Who wrote them: its identity in this group, as hex. */
  readonly device: string;
  /** The first of them, counted among that device's own. */
  readonly fromSeq: number;
  /** The last of them. */
  readonly toSeq: number;
}

/** Entries that are missing although later ones of the same device are here: those wait for them. */
export interface Hole extends EntryRange {
  /** How many wait. */
  readonly waiting: number;
}

/** Where rows are kept: `memory` means that everything is gone with the page. */
export type StorageKind = "indexeddb" | "memory";

/** Where the group stands, as far as this device knows. */
export interface GroupStatus {
  readonly connection: Connection;
  /** Whether everything the relay had at connecting is here. */
  readonly caughtUp: boolean;
  /** All relays of the group, the home relay first. */
  readonly relays: readonly RelayStatus[];
  /** The home relay's origin. */
  readonly relay: string;
  /** The relay's pinned Noise key as hex, once known. */
  readonly relayKey: string | undefined;
  /** This device's identity in the group, as hex. */
  readonly device: string;
  readonly deviceName: string;
  readonly members: readonly Member[];
  readonly granted: readonly GrantedDevice[];
  /** Devices the relay admits that are no members': on their way in, or put there by the relay. */
  readonly unknownAtRelay: number;
  /** How often the group's keys were changed. */
  readonly rotations: number;
  /** A change of keys was asked for here and is still to be carried out. */
  readonly rotating: boolean;
  /** Whether there are words that bring the group back when every device is lost. */
  readonly recovery: "none" | "under_way" | "ready";
  /** The device that made those that are good, which their sheet names: other words than its are void. */
  readonly recoveryMadeBy: string | undefined;
  /** This is the group's only device, and there are no words: ask the person to make some. */
  readonly needsRecoveryWords: boolean;
  /** The highest position stored on this device. */
  readonly position: number;
  /** The highest position the app said it has processed. */
  readonly processed: number;
  /** The relay's newest cursor, where it has told. */
  readonly relayHead: number | undefined;
  /** Pushes that the relay has not confirmed yet, and their bytes. */
  readonly outboxCount: number;
  readonly outboxBytes: number;
  /** The highest push number durable here, at the relay, and on every other device. */
  readonly storedPush: number;
  readonly ackedPush: number;
  readonly everywherePush: number;
  /** What keeps this device from being live. */
  readonly problem: ZerokError | undefined;
  /** What is missing and holds later entries up: a device that has it brings it back, or see `acceptGaps`. */
  readonly holes: readonly Hole[];
  /** What was found in this run. */
  readonly integrity: readonly IntegrityFinding[];
}

/** The state of a client. */
export interface Status {
  /** `empty`: create a group or join one. `stopped`: storage failed, open the client again. */
  readonly state: "empty" | "joining" | "open" | "stopped" | "closed";
  readonly storage: StorageKind;
  /** Present while a group is open. */
  readonly group: GroupStatus | undefined;
  /** Why the client stopped. */
  readonly stoppedBy: ZerokError | undefined;
}
