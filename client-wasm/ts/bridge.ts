// The narrow bridge between the Rust core and this package: what the core asks for and what it
// tells. The Rust side (src/host.rs) builds exactly these shapes; its generated types import them.

import type { Failure } from "./error.js";
import type { GroupStatus, IntegrityFinding, RelayStatus } from "./status.js";

/** What a machine in wasm needs done. No method may call back into wasm or throw. */
export interface Host {
  /** Apply all changes in one durable transaction; an `undefined` value removes its key. */
  commit(id: number, keys: Uint8Array[], values: (Uint8Array | undefined)[]): void;
  /** Read the rows of `from <= key < to`, stopping after the first that reaches `bytesMax`. */
  scan(id: number, from: Uint8Array, to: Uint8Array, bytesMax: number): void;
  /** Call `tick()` after this many milliseconds; replaces the wish before. */
  deadline(delayMs: number | undefined): void;
  /** Something happened. */
  event(event: CoreEvent): void;
}

/** `GroupStatus` before its problems became error objects. */
export type CoreStatus = Omit<GroupStatus, "problem" | "relays"> & {
  readonly problem: Failure | undefined;
  readonly relays: readonly (Omit<RelayStatus, "problem"> & { readonly problem: Failure | undefined })[];
};

/** What an audit of the entries stored here found. */
export interface CoreAuditReport {
  readonly entries: number;
  readonly findings: readonly IntegrityFinding[];
}

/** The core's events. */
export type CoreEvent =
  | { readonly type: "status_changed" }
  | { readonly type: "entries_available"; readonly position: number }
  | { readonly type: "processed_stored"; readonly position: number }
  | { readonly type: "pushes_stored"; readonly push: number }
  | { readonly type: "pushes_acked"; readonly push: number }
  | { readonly type: "pushes_everywhere"; readonly push: number }
  | { readonly type: "whispered"; readonly device: string; readonly data: Uint8Array }
  | { readonly type: "snapshot_queued"; readonly push: number }
  | { readonly type: "reset"; readonly position: number }
  | { readonly type: "compaction_advised"; readonly logBytes: number; readonly snapshotBytes: number }
  | { readonly type: "push_refused"; readonly push: number; readonly failure: Failure }
  | { readonly type: "invite_ready"; readonly invite: string; readonly expiresInMs: number }
  | { readonly type: "joiner_waiting"; readonly name: string; readonly entries: number; readonly members: string[] }
  | { readonly type: "invite_accepted"; readonly device: string; readonly name: string }
  | { readonly type: "invite_failed"; readonly failure: Failure }
  | { readonly type: "show_digits"; readonly digits: string }
  | { readonly type: "confirm_join"; readonly inviter: string; readonly relay: string; readonly members: string[] }
  | { readonly type: "joined" }
  | { readonly type: "join_failed"; readonly failure: Failure }
  | { readonly type: "restored" }
  | { readonly type: "restore_failed"; readonly failure: Failure }
  | { readonly type: "member_joined"; readonly device: string; readonly name: string }
  | { readonly type: "member_removed"; readonly device: string; readonly name: string }
  | {
      readonly type: "entries_given_up";
      readonly device: string;
      readonly fromSeq: number;
      readonly toSeq: number;
    }
  | { readonly type: "keys_changed"; readonly by: string }
  | { readonly type: "left" }
  | { readonly type: "unknown_device_at_relay"; readonly relay: string; readonly noiseKey: string }
  | {
      readonly type: "repairing";
      readonly relay: string;
      readonly examined: number;
      readonly uploaded: number;
      readonly done: boolean;
    }
  | { readonly type: "integrity"; readonly finding: IntegrityFinding }
  | { readonly type: "storage_failed"; readonly failure: Failure };

/** Rows as they cross the bridge: equally long lists of keys and values, in key order. */
export interface Rows {
  readonly keys: Uint8Array[];
  readonly values: Uint8Array[];
}

/** Keys `from <= key < to`. */
export interface KeyRange {
  readonly from: Uint8Array;
  readonly to: Uint8Array;
}
