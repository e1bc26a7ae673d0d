/**
 * 0k-Sync in the browser: keep a local-first web app in step across devices, through a relay that
 * cannot read anything.
 *
 * @module
 */

export { Client } from "./client.js";
export type { EntriesOptions } from "./entries.js";
export type { Entry } from "./entry.js";
export type { ClientEvents, CompactionAdvice, RepairProgress, UnknownDevice, Warning, Whisper } from "./events.js";
export { type ExportOptions, readExport } from "./export.js";
export { ZerokError, type ZerokErrorCode } from "./error.js";
export type { ComparedRelay, RepairedRelay, VerifyReport } from "./healing.js";
export { init, type WasmSource } from "./init.js";
export type { Invitation, InvitedDevice, InviteOptions, WaitingJoiner } from "./invitation.js";
export { type InviteText, readInvite } from "./invite-text.js";
export type { AddRelayOptions, ClientOptions, GroupOffered, JoinOptions, RestoreOptions } from "./options.js";
export type { Durability, Pushed } from "./pushes.js";
export type { QrCode } from "./qr.js";
export { checkRecoveryWords, type RecoveryDraft, type TypedWord, typedRecoveryWords } from "./recovery.js";
export type { Connection, EntryRange, GrantedDevice, GroupStatus, Hole, IntegrityFinding, Member, RelayStatus, Status, StorageKind } from "./status.js";
