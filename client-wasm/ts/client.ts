import { Deferred } from "./deferred.js";
import type { KeyRange } from "./bridge.js";
import { Device } from "./device.js";
import { type EntriesOptions, readEntries } from "./entries.js";
import type { Entry } from "./entry.js";
import { callCore, ZerokError } from "./error.js";
import type { ClientEvents } from "./events.js";
import { type ExportOptions, restoreExport, writeExport } from "./export.js";
import { type RepairedRelay, repair, type VerifyReport, verify } from "./healing.js";
import { type Invitation, type InviteOptions, PendingInvitation } from "./invitation.js";
import { join } from "./joining.js";
import type { AddRelayOptions, ClientOptions, JoinOptions, RestoreOptions } from "./options.js";
import type { Pushed } from "./pushes.js";
import type { RecoveryDraft } from "./recovery.js";
import { createRecovery, restore } from "./restoring.js";
import type { GroupStatus, Hole, Member, Status } from "./status.js";
import { randomBytes } from "./storage.js";
import { CoreEngine, lockRandomBytes, lockStoreKey } from "./zerok_sync_wasm.js";

/** Ten minutes: a relay keeps no invitation longer. */
const INVITE_TTL_MS = 600_000;

/**
 * One device of one group.
 *
 * @example
 * const client = await Client.open({ relay: "https://relay.example" });
 * if (client.status.state === "empty") await client.createGroup();
 * await client.push(new TextEncoder().encode("hello"));
 * for await (const entry of client.entries()) {
 *   console.log(new TextDecoder().decode(entry.data));
 *   await client.processed(entry.position);
 * }
 */
export class Client {
  readonly #device: Device;

  private constructor(device: Device) {
    this.#device = device;
  }

  /**
   * Opens this device's database and, if it is in a group, goes online. Works offline.
   *
   * Rejects with `database_in_use` while another tab has the same database open, `passphrase_needed`
   * or `wrong_passphrase` if it is locked, `corrupt` or `newer_database` if it cannot be read; nothing
   * is overwritten then.
   */
  static async open(options: ClientOptions): Promise<Client> {
    return new Client(await Device.open(options));
  }

  /**
   * Makes a new group with this device as its first member. Resolves when the group is durable
   * here; the relay hears of it as soon as it can be reached.
   */
  async createGroup(): Promise<void> {
    this.#device.expectEmpty();
    this.#device.enter("joining");
    try {
      const { relay, options: { relayKey, token } } = this.#device;
      const [keys, values] = callCore(() =>
        CoreEngine.found(this.#device.storeKey, randomBytes(32), relay, relayKey, this.#device.name, token),
      ) as [Uint8Array[], Uint8Array[]];
      await this.#device.storage.commit(keys, values);
      await this.#device.openNewGroup();
    } catch (error) {
      throw this.#device.backToEmpty(error);
    }
  }

  /**
   * Joins the group that a link or a code invites to; a code is looked for at this client's relay.
   * Resolves when this device is a member and has stored what it needs. On any failure nothing was
   * stored.
   *
   * @example
   * await client.join(codeOrLink, {
   *   onDigits: (digits) => show(`Type ${digits} on the other device.`),
   *   onConfirm: ({ inviter, relay }) => confirm(`Join the group of "${inviter}" on ${relay}?`),
   * });
   */
  join(codeOrLink: string, options: JoinOptions = {}): Promise<void> {
    return join(this.#device, codeOrLink, options);
  }

  /**
   * Puts the device in an export file here, if that was made with its identity: as it was when the
   * file was written. Of two that write, one is shut out, so do not go on with the other. On any
   * failure nothing was stored.
   */
  async import(file: Blob, passphrase: string): Promise<void> {
    this.#device.expectEmpty();
    this.#device.enter("joining");
    try {
      this.#device.storeKey = await restoreExport(this.#device.storage, file, passphrase);
      await this.#device.openNewGroup();
    } catch (error) {
      throw this.#device.backToEmpty(error);
    }
  }

  /**
   * Writes the group with all entries that are stored here into a file, sealed under a passphrase.
   *
   * @example
   * const file = await client.export({ passphrase: prompt("Seal it under which passphrase?") ?? "" });
   * show(URL.createObjectURL(file));
   */
  async export(options: ExportOptions): Promise<Blob> {
    this.#device.openOrThrow();
    return writeExport(this.#device.storage, this.#device.storeKey, options);
  }

  /**
   * Opens an invitation: resolves when there is a link or code to show. One at a time.
   *
   * @example
   * const { text, done } = await client.invite({
   *   kind: "code",
   *   onJoiner: ({ name }) => prompt(`"${name}" wants in. Which two digits does it show?`) ?? undefined,
   * });
   * show(text);
   * const { device } = await done;
   */
  async invite(options: InviteOptions): Promise<Invitation> {
    const { core } = this.#device.openOrThrow();
    if (this.#device.invitation?.isOver === false) {
      throw new ZerokError("busy", "an invitation is open already: cancel it, or wait for its end");
    }
    if (options.signal?.aborted) throw new ZerokError("cancelled", "cancelled");
    const engine = {
      // Without a group there is nobody to answer.
      answerJoiner: (typed: string) => this.#device.group?.core.answerJoiner(typed) ?? true,
      declineJoiner: () => this.#device.group?.core.declineJoiner(),
      cancelInvite: () => this.#device.group?.core.cancelInvite(),
    };
    this.#device.invitation = new PendingInvitation(engine, options);
    const { ready } = this.#device.invitation;
    const ttlMs = options.ttlMs ?? INVITE_TTL_MS;
    callCore(() => (options.kind === "code" ? core.inviteByCode(ttlMs) : core.inviteByLink(options.baseUrl, ttlMs)));
    return ready;
  }

  /**
   * Queues a blob of up to 32 MiB for the group. Resolves when it is durable on this device; from
   * then on the client delivers it, whatever happens to the page or the network: whole, or not yet.
   */
  async push(blob: Uint8Array): Promise<Pushed> {
    const { core, pushes } = this.#device.openOrThrow();
    if (!(blob instanceof Uint8Array)) throw new ZerokError("invalid_argument", "push takes a Uint8Array");
    if (this.#device.isReadingBack) throw new ZerokError("not_yet", "the group is being restored: push once that is done");
    return pushes.stored(callCore(() => core.push(blob)));
  }

  /**
   * Makes a snapshot of the log: `state` is everything the app has made of all entries it was given,
   * and of its own. Devices that join from now on are given this as their first entry (`snapshot` is
   * true), and behind it what it does not cover. Call `processed` first: what leaves entries out is
   * refused with `not_processed`. While entries are on their way it is refused with `not_caught_up`.
   */
  async compact(state: Uint8Array): Promise<Pushed> {
    const { core, pushes } = this.#device.openOrThrow();
    if (!(state instanceof Uint8Array)) throw new ZerokError("invalid_argument", "compact takes a Uint8Array");
    callCore(() => core.compact(state));
    return pushes.stored(await pushes.snapshot());
  }

  /**
   * The group's entries, stored ones first and then live, each position once. Only what the app
   * asks for is read, so a slow app costs no memory. Ends when the client is closed.
   */
  entries(options: EntriesOptions = {}): AsyncIterableIterator<Entry> {
    const { core, doorbell } = this.#device.openOrThrow();
    const source = {
      doorbell,
      page: (after: number, bytesMax: number) => {
        const { from, to } = core.entryRange(after);
        return this.#device.storage.scan(from, to, bytesMax);
      },
      read: (key: Uint8Array, value: Uint8Array, after: number) =>
        callCore(() => core.readEntries(key, value, after)),
      rows: ({ from, to }: KeyRange, bytesMax: number) => this.#device.storage.scan(from, to, bytesMax),
    };
    return readEntries(source, options.after ?? core.status().processed, options);
  }

  /**
   * Removes another device: by its name, or the beginning of its identity. The relay shuts it out at
   * once, and the group's keys are changed. It keeps what it had. Resolves when that is done; until
   * the relay can be reached the wish stays stored and is carried out by itself.
   */
  async revoke(device: string): Promise<void> {
    const removed = callCore(() => this.#device.openOrThrow().core.revoke(device));
    await this.#device.until((status) => status.members.every((member) => member.device !== removed));
  }

  /** Changes the group's keys: invitations that were handed out and not used are void. */
  async rotate(): Promise<void> {
    const { core } = this.#device.openOrThrow();
    const { rotations } = core.status();
    callCore(() => core.rotate());
    await this.#device.until((status) => status.rotations > rotations);
  }

  /**
   * Takes the group back where no relay lets this device in any more, because another one changed
   * the keys first: begins anew without the devices named (names, or beginnings of identities), under
   * a name at the relay that is free, with all that this device keeps. The others get back in by
   * themselves. A person decides that; nothing does it by itself. Resolves when the keys are changed.
   */
  async refound(without: readonly string[]): Promise<void> {
    callCore(() => this.#device.openOrThrow().core.refound([...without]));
  }

  /** Takes this device out of the group. What it has stored stays readable here. */
  async leave(): Promise<void> {
    callCore(() => this.#device.openOrThrow().core.leave());
    await this.#device.until((status) => status.problem?.code === "left");
  }

  /**
   * New recovery words: show them once and ask for the words that `asked` names; then call
   * `createRecovery`. Nothing is stored or sent.
   */
  draftRecovery(): RecoveryDraft {
    return callCore(() => this.#device.openOrThrow().core.draftRecovery());
  }

  /**
   * Makes words good: from then on they bring the group back when every device is lost. Words made
   * before are void then. Resolves when the relay has what a restore needs; until it can be reached
   * the wish stays stored and is carried out by itself. Rejects with `words_replaced` if another
   * device made newer words meanwhile, or removed these: then they are void.
   *
   * @example
   * const { words, asked, html } = client.draftRecovery();
   * await showAndAsk(words, asked, html);
   * await client.createRecovery(words);
   */
  createRecovery(words: string | readonly string[]): Promise<void> {
    return createRecovery(this.#device, words);
  }

  /**
   * Brings a group back from its words, as a new device of it, from this client's relay. Resolves
   * when the whole log was read; `push` rejects with `not_yet` until then. On any failure nothing is
   * kept, also if the page goes meanwhile, and the words are as good as before. The lost devices are
   * still members: `revoke` them.
   */
  restore(words: string | readonly string[], { signal }: RestoreOptions = {}): Promise<void> {
    return restore(this.#device, words, signal);
  }

  /**
   * Has another relay carry the group's log as well, or makes one that does the home relay. Resolves
   * once this device has met it and the group is told; it is then filled from what this device keeps.
   * Rejects, and forgets it, when it was not met in time.
   */
  async addRelay(url: string, options: AddRelayOptions = {}): Promise<void> {
    const { core } = this.#device.openOrThrow();
    const origin = callCore(() => core.addRelay(url, options.key, options.token, options.home ?? false));
    const named = (status: GroupStatus) => status.relays.find((relay) => relay.url === origin);
    const listed = this.#device.until((status) => named(status)?.listed ?? false);
    const timeout = new Deferred<void>();
    const timer = setTimeout(() => {
      const problem = this.#device.groupStatus()?.relays.find((relay) => relay.url === origin)?.problem;
      timeout.reject(problem ?? new ZerokError("timed_out", `${origin} did not answer in time`));
    }, options.timeoutMs ?? 60_000);
    try {
      await Promise.race([listed, timeout.promise]);
    } catch (error) {
      // Whoever closed the client meanwhile has nothing to forget.
      if (this.#device.state === "open") callCore(() => core.removeRelay(origin));
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Takes a relay off the group's list. What it holds stays there. */
  async removeRelay(url: string): Promise<void> {
    callCore(() => this.#device.openOrThrow().core.removeRelay(url));
  }

  /**
   * Gives up entries that nobody has any more (`status.group.holes`), for the whole group: what their
   * sender wrote behind them counts from then on, on every device that lacks them as well. Only once no
   * device is left that may still bring them: a person decides that, nothing does it by itself.
   * Resolves to what was given up once this device has gone on behind it. Rejects with `not_yet` before
   * all that the relays have was read, and with `cancelled` if `signal` ends the wait; what was said stays.
   *
   * @example
   * const missing = client.status.group?.holes ?? [];
   * if (missing.length > 0 && confirm("Entries are lost. Is no other device left that may have them?")) {
   *   await client.acceptGaps();
   * }
   */
  async acceptGaps({ signal }: { readonly signal?: AbortSignal } = {}): Promise<readonly Hole[]> {
    const { core } = this.#device.openOrThrow();
    const givenUp = callCore(() => core.acceptGaps());
    const isGivenUp = (hole: Hole) => givenUp.some(({ device, toSeq }) => hole.device === device && hole.toSeq === toSeq);
    await this.#device.until(({ holes, outboxCount }) => !holes.some(isGivenUp) && outboxCount === 0, signal);
    return givenUp;
  }

  /**
   * Checks everything once more: each entry stored here, that it opens, its signature, its place in
   * its sender's chain; and each relay's log, from its first entry on, against what this device has
   * read there. Resolves once every relay is compared that can be; what is wrong is told as
   * `on("integrity")` too. Nothing is put right: `repair` does that. Rejects with `revoked`, `left`,
   * `relay_key_changed` or what else a relay refuses this device with, where none was compared, and with
   * `cancelled` if `signal` ends the wait.
   *
   * @example
   * const { findings, relays } = await client.verify();
   * for (const { url, compared, problem } of relays) {
   *   if (!compared) show(`${url} could not be compared: ${problem?.message}`);
   * }
   * if (findings.length > 0 && confirm("Something is wrong with the group's log. Put it right?")) {
   *   await client.repair();
   * }
   */
  async verify({ signal }: { readonly signal?: AbortSignal } = {}): Promise<VerifyReport> {
    return verify(this.#device, signal);
  }

  /**
   * Reads each relay's log again from its first entry and puts back what is missing or damaged there,
   * as far as this device has it; then reads it once more to see whether that stands. Resolves to how
   * each relay is then, once every relay is done that can be; `status.group.relays` and
   * `on("repairing")` tell how far it has come. A relay that is away is named, and repaired when it is
   * back while this client is open. Rejects as `verify` does.
   *
   * @example
   * const stop = client.on("repairing", ({ relay, uploaded }) => show(`${relay}: ${uploaded} put back`));
   * for (const { url, hasEverything, problem } of await client.repair()) {
   *   if (!hasEverything) show(`${url} still lacks something. ${problem?.message ?? "It does not keep what it is given."}`);
   * }
   * stop();
   */
  async repair({ signal }: { readonly signal?: AbortSignal } = {}): Promise<readonly RepairedRelay[]> {
    return repair(this.#device, signal);
  }

  /** Gives this device another name. Resolves when that is durable here; the others hear of it as of any entry. */
  async rename(name: string): Promise<void> {
    const { core, pushes } = this.#device.openOrThrow();
    callCore(() => core.rename(name));
    await pushes.stored(core.status().storedPush);
  }

  /**
   * Locks this device's database: from now on it opens with this passphrase only (`open({ passphrase })`),
   * and nobody can tell what it was. Without one, it opens without again. What is locked are the keys
   * and what was not sent yet; names, sizes and times stay readable on this device. Takes up to a
   * second of the page's thread.
   *
   * @example
   * await client.setPassphrase(prompt("Lock this device's copy under which passphrase?") ?? undefined);
   */
  async setPassphrase(passphrase: string | undefined): Promise<void> {
    if (this.#device.state === "closed" || this.#device.state === "stopped") this.#device.openOrThrow();
    const storeKey = this.#device.storeKey;
    const stored =
      passphrase === undefined
        ? storeKey
        : callCore(() => lockStoreKey(storeKey, passphrase, randomBytes(lockRandomBytes())));
    await this.#device.storage.replaceKey(stored);
  }

  /**
   * Says something to the group's devices that are there, such as a cursor's place or "is typing":
   * sealed and signed, stored nowhere, at most 1,024 bytes and ten a second. It may be lost; the
   * others get it as `on("whisper")`. Throws `not_connected` where nobody could hear it, and
   * `too_often`.
   *
   * @example
   * client.on("whisper", ({ device, data }) => show(`${device.slice(0, 8)}: ${new TextDecoder().decode(data)}`));
   * input.addEventListener("input", () => {
   *   if (client.onlineDevices.length > 0) client.whisper(new TextEncoder().encode("typing"));
   * });
   */
  whisper(data: Uint8Array): void {
    callCore(() => this.#device.openOrThrow().core.whisper(data));
  }

  /**
   * Lets this device go on if it is the group's only one and was restored from an older copy
   * (`needs_approval`). Only if no other copy of its database is in use. Rejects with
   * `nothing_to_approve`, or `not_alone`: then another device invites this one again.
   *
   * @example
   * if (client.status.group?.problem?.code === "needs_approval" && confirm("Is no other copy of this app's data in use?")) {
   *   await client.approve();
   * }
   */
  async approve(): Promise<void> {
    callCore(() => this.#device.openOrThrow().core.approve());
    await this.#device.until((status) => status.problem?.code !== "needs_approval");
  }

  /**
   * Says that the app has dealt with every entry up to a position: those never come again. Resolves
   * once that is durable on this device; an app that can take an entry twice need not wait for it.
   */
  processed(position: number): Promise<void> {
    try {
      const { core, processed } = this.#device.openOrThrow();
      return processed.wait(callCore(() => core.markProcessed(position)));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Where this client stands now. */
  get status(): Status {
    return this.#device.status;
  }

  /** The group's devices. */
  get members(): readonly Member[] {
    return this.#device.groupStatus()?.members ?? [];
  }

  /**
   * The group's other devices that are there now, by their own signed word: one that goes without a
   * word is missed after 75 seconds.
   *
   * @example
   * client.onStatus(() => show(client.onlineDevices.map(({ name }) => name).join(", ")));
   */
  get onlineDevices(): readonly Member[] {
    return this.members.filter((member) => member.online && !member.own);
  }

  /** Listens; returns the function that stops listening. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (detail: ClientEvents[Name]) => void): () => void {
    return this.#device.emitter.on(name, listener);
  }

  /** Calls back with the status whenever it changes; returns the function that stops that. */
  onStatus(listener: (status: Status) => void): () => void {
    return this.on("status", listener);
  }

  /** Says good-bye to the relay and gives the database up. What was pushed stays in the outbox. */
  close(): Promise<void> {
    return this.#device.close();
  }
}
