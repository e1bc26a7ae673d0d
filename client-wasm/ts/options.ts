// What an app says when it opens a client, joins, restores, or adds a relay.

import type { Warning } from "./events.js";

/** How to open a client. */
export interface ClientOptions {
  /** Origin of the relay on which `createGroup` makes a group. */
  readonly relay: string;
  /** What this device calls itself towards the group's other devices. */
  readonly name?: string;
  /** Names the local database: one group each. Default `default`. */
  readonly database?: string;
  /** The relay's Noise key as hex. Needed for plain http to another machine. */
  readonly relayKey?: string;
  /** For relays that ask for one before they take a new group. */
  readonly token?: Uint8Array;
  /** Opens a database that `setPassphrase` locked; one that is not locked does not look at it. */
  readonly passphrase?: string;
  /**
   * How much of the log is kept in this browser: `own`, what came since the newest snapshot that
   * another device has as well, or `full`, everything that a relay still serves. Default `own`.
   */
  readonly mirror?: "full" | "own";
  /** Hears of warnings that come up while opening, too. */
  readonly onWarning?: (warning: Warning) => void;
}

/** A relay that is to carry the group's log as well. */
export interface AddRelayOptions {
  /** Its Noise key as hex. Needed for plain http to another machine. */
  readonly key?: string;
  /** For relays that ask for one before they take a new group. */
  readonly token?: Uint8Array;
  /** Makes it the home relay, which orders changes of keys. */
  readonly home?: boolean;
  /** How long it may take to be met. Default a minute. */
  readonly timeoutMs?: number;
}

/** How to join. */
export interface JoinOptions {
  /** Gets the two digits to show: the person at the inviting device types them. */
  readonly onDigits?: (digits: string) => void;
  /**
   * Asks this device's person whether this is the group they mean; nothing is stored before it
   * resolved to `true`. Without it, whatever group the invitation leads to is joined.
   */
  readonly onConfirm?: (group: GroupOffered) => Promise<boolean> | boolean;
  /**
   * This client has a group in which it is alone, or which it has left: join from there, and bring
   * along what this device wrote, as new entries of its own in their order. Until it has joined, the
   * group stays as it is, and it is back if joining fails.
   */
  readonly bringData?: boolean;
  /** Gives up. */
  readonly signal?: AbortSignal;
}

/** How to restore. */
export interface RestoreOptions {
  /** Gives up. */
  readonly signal?: AbortSignal;
}

/** Whose group a device is about to join. */
export interface GroupOffered {
  /** What the inviting device calls itself. Untrusted text. */
  readonly inviter: string;
  /** Origin of the relay that keeps the group's log. */
  readonly relay: string;
  /** The names of the group's devices. */
  readonly members: readonly string[];
}
