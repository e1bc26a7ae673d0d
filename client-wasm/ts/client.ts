import { Arrival } from "./arrival.js";
import type { CoreEvent, KeyRange } from "./bridge.js";
import { Deferred } from "./deferred.js";
import { Emitter } from "./emitter.js";
import { type EntriesOptions, Doorbell, readEntries } from "./entries.js";
import type { Entry } from "./entry.js";
import { asZerokError, callCore, ZerokError } from "./error.js";
import type { ClientEvents } from "./events.js";
import { type ExportOptions, restoreExport, writeExport } from "./export.js";
import { init } from "./init.js";
import { type Invitation, type InviteOptions, PendingInvitation } from "./invitation.js";
import { lockDatabase } from "./lock.js";
import { MachineHost } from "./machine-host.js";
import { openStorage } from "./open-storage.js";
import type { AddRelayOptions, ClientOptions, GroupOffered, JoinOptions, RestoreOptions } from "./options.js";
import { type Pushed, Pushes } from "./pushes.js";
import type { RecoveryDraft } from "./recovery.js";
import type { GroupStatus, Member, Status } from "./status.js";
import { randomBytes, type Storage } from "./storage.js";
import { Tier } from "./tier.js";
import { watchForWake } from "./wake.js";
import { CoreEngine, CoreFormer, CoreJoiner, CoreRestorer, lockRandomBytes, lockStoreKey, unlockStoreKey } from "./zerok_sync_wasm.js";

/** Bytes of rows that are read at a time while entries are brought along. */
const BRING_BYTES = 1024 * 1024;

/** Ten minutes: a relay keeps no invitation longer. */
const INVITE_TTL_MS = 600_000;

/** The group this device is in: its engine, and who waits for what. */
interface OpenGroup {
  readonly core: CoreEngine;
  readonly host: MachineHost<CoreEngine>;
  readonly pushes: Pushes;
  readonly processed: Tier;
  readonly doorbell: Doorbell;
}

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
  readonly #options: ClientOptions;
  readonly #storage: Storage;
  #storeKey: Uint8Array;
  readonly #unlock: () => void;
  readonly #stopWatching: () => void;
  readonly #emitter = new Emitter<ClientEvents>();
  #state: Status["state"] = "empty";
  #stoppedBy: ZerokError | undefined;
  #group: OpenGroup | undefined;
  #arrival: Arrival<CoreJoiner> | Arrival<CoreRestorer> | undefined;
  #invitation: PendingInvitation | undefined;
  /** A restore is not over: what is here may be dropped yet. */
  #isReadingBack = false;

  private constructor(options: ClientOptions, storage: Storage, unlock: () => void) {
    // Not kept: the key is here.
    const { passphrase, ...kept } = options;
    this.#storeKey = callCore(() => unlockStoreKey(storage.storedKey, passphrase));
    this.#options = kept;
    this.#storage = storage;
    this.#unlock = unlock;
    this.#stopWatching = watchForWake(() => {
      this.#group?.host.wake();
      this.#arrival?.wake();
    });
    if (options.onWarning !== undefined) this.on("warning", options.onWarning);
  }

  /**
   * Opens this device's database and, if it is in a group, goes online. Works offline.
   *
   * Rejects with `database_in_use` while another tab has the same database open, `passphrase_needed`
   * or `wrong_passphrase` if it is locked, `corrupt` or `newer_database` if it cannot be read; nothing
   * is overwritten then.
   */
  static async open(options: ClientOptions): Promise<Client> {
    await init();
    const name = `0k-sync/${options.database ?? "default"}`;
    const unlock = await lockDatabase(name);
    let client: Client | undefined;
    let storage: Storage | undefined;
    try {
      storage = await openStorage(name, (error) => {
        if (client !== undefined) client.#stop(error);
      });
      client = new Client(options, storage, unlock);
      if (storage.kind === "memory") {
        client.#emitter.emit("warning", {
          code: "memory_only",
          message: "this browser gives this page no database: everything is gone when the page is closed",
        });
      }
      await client.#openGroup().catch((error: unknown) => {
        if (!(error instanceof ZerokError && error.code === "no_group")) throw error;
        // What an import left that came to nothing.
        return storage?.clear();
      });
      // A restore that was cut off: nothing was written in its name, and nothing vouches for what is here.
      if (client.#group?.core.isRestoring()) await client.#forgetGroup();
      return client;
    } catch (error) {
      if (client !== undefined) client.#stopWatching();
      storage?.close();
      unlock();
      throw asZerokError(error);
    }
  }

  /**
   * Makes a new group with this device as its first member. Resolves when the group is durable
   * here; the relay hears of it as soon as it can be reached.
   */
  async createGroup(): Promise<void> {
    this.#expectEmpty();
    this.#enter("joining");
    try {
      const { relayKey, token } = this.#options;
      const relay = originOf(this.#options.relay);
      const [keys, values] = callCore(() =>
        CoreEngine.found(this.#storeKey, randomBytes(32), relay, relayKey, this.#deviceName, token),
      ) as [Uint8Array[], Uint8Array[]];
      await this.#storage.commit(keys, values);
      await this.#openNewGroup();
    } catch (error) {
      throw this.#backToEmpty(error);
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
  async join(codeOrLink: string, options: JoinOptions = {}): Promise<void> {
    const { onDigits, onConfirm, bringData = false, signal } = options;
    if (bringData) await this.#leaveForAnother();
    else this.#expectEmpty();
    this.#enter("joining");
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
      const { relayKey } = this.#options;
      const relay = originOf(this.#options.relay);
      this.#arrival = joining = new Arrival(
        this.#storage,
        (host) => CoreJoiner.open(host, this.#storeKey, randomBytes(32), codeOrLink, relay, relayKey, this.#deviceName, bringData),
        (event) => {
          if (event.type === "show_digits") onDigits?.(event.digits);
          if (event.type === "confirm_join") void ask(event);
        },
      );
      await joining.run(signal);
      await this.#openNewGroup();
    } catch (error) {
      const thrown = this.#backToEmpty(error);
      if (bringData && this.#state === "empty") {
        this.#storage.replaceNext(false);
        await this.#openNewGroup();
      }
      throw thrown;
    } finally {
      this.#arrival = undefined;
    }
  }

  /**
   * Puts the device in an export file here, if that was made with its identity: as it was when the
   * file was written. Of two that write, one is shut out, so do not go on with the other. On any
   * failure nothing was stored.
   */
  async import(file: Blob, passphrase: string): Promise<void> {
    this.#expectEmpty();
    this.#enter("joining");
    try {
      this.#storeKey = await restoreExport(this.#storage, file, passphrase);
      await this.#openNewGroup();
    } catch (error) {
      throw this.#backToEmpty(error);
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
    this.#openOrThrow();
    return writeExport(this.#storage, this.#storeKey, options);
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
    const { core } = this.#openOrThrow();
    if (this.#invitation?.isOver === false) {
      throw new ZerokError("busy", "an invitation is open already: cancel it, or wait for its end");
    }
    if (options.signal?.aborted) throw new ZerokError("cancelled", "cancelled");
    const engine = {
      // Without a group there is nobody to answer.
      answerJoiner: (typed: string) => this.#group?.core.answerJoiner(typed) ?? true,
      declineJoiner: () => this.#group?.core.declineJoiner(),
      cancelInvite: () => this.#group?.core.cancelInvite(),
    };
    this.#invitation = new PendingInvitation(engine, options);
    const { ready } = this.#invitation;
    const ttlMs = options.ttlMs ?? INVITE_TTL_MS;
    callCore(() => (options.kind === "code" ? core.inviteByCode(ttlMs) : core.inviteByLink(options.baseUrl, ttlMs)));
    return ready;
  }

  /**
   * Queues a blob of up to 32 MiB for the group. Resolves when it is durable on this device; from
   * then on the client delivers it, whatever happens to the page or the network: whole, or not yet.
   */
  async push(blob: Uint8Array): Promise<Pushed> {
    const { core, pushes } = this.#openOrThrow();
    if (!(blob instanceof Uint8Array)) throw new ZerokError("invalid_argument", "push takes a Uint8Array");
    if (this.#isReadingBack) throw new ZerokError("not_yet", "the group is being restored: push once that is done");
    return pushes.stored(callCore(() => core.push(blob)));
  }

  /**
   * Makes a snapshot of the log: `state` is everything the app has made of all entries it was given,
   * and of its own. Devices that join from now on are given this as their first entry (`snapshot` is
   * true), and behind it what it does not cover. Call `processed` first: what leaves entries out is
   * refused with `not_processed`. While entries are on their way it is refused with `not_caught_up`.
   */
  async compact(state: Uint8Array): Promise<Pushed> {
    const { core, pushes } = this.#openOrThrow();
    if (!(state instanceof Uint8Array)) throw new ZerokError("invalid_argument", "compact takes a Uint8Array");
    callCore(() => core.compact(state));
    return pushes.stored(await pushes.snapshot());
  }

  /**
   * The group's entries, stored ones first and then live, each position once. Only what the app
   * asks for is read, so a slow app costs no memory. Ends when the client is closed.
   */
  entries(options: EntriesOptions = {}): AsyncIterableIterator<Entry> {
    const { core, doorbell } = this.#openOrThrow();
    const source = {
      doorbell,
      page: (after: number, bytesMax: number) => {
        const { from, to } = core.entryRange(after);
        return this.#storage.scan(from, to, bytesMax);
      },
      read: (key: Uint8Array, value: Uint8Array, after: number) =>
        callCore(() => core.readEntries(key, value, after)),
      rows: ({ from, to }: KeyRange, bytesMax: number) => this.#storage.scan(from, to, bytesMax),
    };
    return readEntries(source, options.after ?? core.status().processed, options);
  }

  /**
   * Removes another device: by its name, or the beginning of its identity. The relay shuts it out at
   * once, and the group's keys are changed. It keeps what it had. Resolves when that is done; until
   * the relay can be reached the wish stays stored and is carried out by itself.
   */
  async revoke(device: string): Promise<void> {
    const removed = callCore(() => this.#openOrThrow().core.revoke(device));
    await this.#until((status) => status.members.every((member) => member.device !== removed));
  }

  /** Changes the group's keys: invitations that were handed out and not used are void. */
  async rotate(): Promise<void> {
    const { core } = this.#openOrThrow();
    const { rotations } = core.status();
    callCore(() => core.rotate());
    await this.#until((status) => status.rotations > rotations);
  }

  /**
   * Takes the group back where no relay lets this device in any more, because another one changed
   * the keys first: begins anew without the devices named (names, or beginnings of identities), under
   * a name at the relay that is free, with all that this device keeps. The others get back in by
   * themselves. A person decides that; nothing does it by itself. Resolves when the keys are changed.
   */
  async refound(without: readonly string[]): Promise<void> {
    callCore(() => this.#openOrThrow().core.refound([...without]));
  }

  /** Takes this device out of the group. What it has stored stays readable here. */
  async leave(): Promise<void> {
    callCore(() => this.#openOrThrow().core.leave());
    await this.#until((status) => status.problem?.code === "left");
  }

  /**
   * New recovery words: show them once and ask for the words that `asked` names; then call
   * `createRecovery`. Nothing is stored or sent.
   */
  draftRecovery(): RecoveryDraft {
    return callCore(() => this.#openOrThrow().core.draftRecovery());
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
  async createRecovery(words: string | readonly string[]): Promise<void> {
    const text = typeof words === "string" ? words : words.join(" ");
    const paper = callCore(() => this.#openOrThrow().core.enrolRecovery(text));
    await this.#until(({ recovery, members }) => {
      if (recovery === "under_way") return false;
      if (recovery === "ready" && members.some(({ device }) => device === paper)) return true;
      throw new ZerokError("words_replaced", "another device made newer recovery words, or removed these: they are void");
    });
  }

  /**
   * Brings a group back from its words, as a new device of it, from this client's relay. Resolves
   * when the whole log was read; `push` rejects with `not_yet` until then. On any failure nothing is
   * kept, also if the page goes meanwhile, and the words are as good as before. The lost devices are
   * still members: `revoke` them.
   */
  restore(words: string | readonly string[], { signal }: RestoreOptions = {}): Promise<void> {
    // Nothing here holds the words while the log is read, which may take long.
    return this.#comeByWords(words, signal).then(() => this.#readBack(signal));
  }

  /** Stores a new membership that the words vouch for, and goes online with it. */
  async #comeByWords(words: string | readonly string[], signal: AbortSignal | undefined): Promise<void> {
    this.#expectEmpty();
    this.#enter("joining");
    const text = typeof words === "string" ? words : words.join(" ");
    try {
      const { relayKey } = this.#options;
      const relay = originOf(this.#options.relay);
      const restoring = new Arrival(this.#storage, (host) =>
        CoreRestorer.open(host, this.#storeKey, randomBytes(32), text, relay, relayKey, this.#deviceName),
      );
      this.#arrival = restoring;
      await restoring.run(signal);
      this.#isReadingBack = true;
      await this.#openNewGroup();
    } catch (error) {
      this.#isReadingBack = false;
      throw this.#backToEmpty(error);
    } finally {
      this.#arrival = undefined;
    }
  }

  /** Waits until the log has shown all that the words vouch for, and has this device. */
  async #readBack(signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#until(() => callCore(() => this.#openOrThrow().core.restored()), signal);
    } catch (error) {
      // If that fails, this client must not take the storage for empty.
      await this.#forgetGroup().catch((failure: unknown) => this.#stop(asZerokError(failure)));
      throw asZerokError(error);
    } finally {
      this.#isReadingBack = false;
    }
  }

  /** Empties the storage: what was stored is not known to be the group that was meant. */
  async #forgetGroup(): Promise<void> {
    const group = this.#group;
    if (group === undefined) return;
    this.#end("joining", new ZerokError("closed", "the restore failed: nothing of it was kept"));
    group.core.close();
    await group.host.settle();
    // Whoever closed the client meanwhile finds this left over, and dropped, at the next opening.
    if (this.#state !== "joining") return;
    await this.#storage.clear();
    if (this.#state === "joining") this.#enter("empty");
  }

  /**
   * Has another relay carry the group's log as well, or makes one that does the home relay. Resolves
   * once this device has met it and the group is told; it is then filled from what this device keeps.
   * Rejects, and forgets it, when it was not met in time.
   */
  async addRelay(url: string, options: AddRelayOptions = {}): Promise<void> {
    const { core } = this.#openOrThrow();
    const origin = callCore(() => core.addRelay(url, options.key, options.token, options.home ?? false));
    const named = (status: GroupStatus) => status.relays.find((relay) => relay.url === origin);
    const listed = this.#until((status) => named(status)?.listed ?? false);
    const timeout = new Deferred<void>();
    const timer = setTimeout(() => {
      const problem = this.#groupStatus()?.relays.find((relay) => relay.url === origin)?.problem;
      timeout.reject(problem ?? new ZerokError("timed_out", `${origin} did not answer in time`));
    }, options.timeoutMs ?? 60_000);
    try {
      await Promise.race([listed, timeout.promise]);
    } catch (error) {
      // Whoever closed the client meanwhile has nothing to forget.
      if (this.#state === "open") callCore(() => core.removeRelay(origin));
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Takes a relay off the group's list. What it holds stays there. */
  async removeRelay(url: string): Promise<void> {
    callCore(() => this.#openOrThrow().core.removeRelay(url));
  }

  /** Gives this device another name. Resolves when that is durable here; the others hear of it as of any entry. */
  async rename(name: string): Promise<void> {
    const { core, pushes } = this.#openOrThrow();
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
    if (this.#state === "closed" || this.#state === "stopped") this.#openOrThrow();
    const storeKey = this.#storeKey;
    const stored =
      passphrase === undefined
        ? storeKey
        : callCore(() => lockStoreKey(storeKey, passphrase, randomBytes(lockRandomBytes())));
    await this.#storage.replaceKey(stored);
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
    callCore(() => this.#openOrThrow().core.whisper(data));
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
    callCore(() => this.#openOrThrow().core.approve());
    await this.#until((status) => status.problem?.code !== "needs_approval");
  }

  /** Waits for a status of the group; what the relay says against this device ends the wait. */
  #until(reached: (status: GroupStatus) => boolean, signal?: AbortSignal): Promise<void> {
    const done = new Deferred<void>();
    const cancel = () => done.reject(new ZerokError("cancelled", "cancelled"));
    const look = () => {
      const group = this.#groupStatus();
      let ended: boolean;
      try {
        ended = group !== undefined && reached(group);
      } catch (error) {
        return done.reject(asZerokError(error));
      }
      if (group === undefined) done.reject(this.#stoppedBy ?? new ZerokError("closed", "this client was closed"));
      else if (ended) done.resolve();
      else if (group.problem?.code === "revoked" || group.problem?.code === "left") done.reject(group.problem);
    };
    const stop = this.on("status", look);
    signal?.addEventListener("abort", cancel);
    if (signal?.aborted) cancel();
    look();
    return done.promise.finally(() => {
      signal?.removeEventListener("abort", cancel);
      stop();
    });
  }

  /**
   * Says that the app has dealt with every entry up to a position: those never come again. Resolves
   * once that is durable on this device; an app that can take an entry twice need not wait for it.
   */
  processed(position: number): Promise<void> {
    try {
      const { core, processed } = this.#openOrThrow();
      return processed.wait(callCore(() => core.markProcessed(position)));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Where this client stands now. */
  get status(): Status {
    return {
      state: this.#state,
      storage: this.#storage.kind,
      group: this.#groupStatus(),
      stoppedBy: this.#stoppedBy,
    };
  }

  /** The group's devices. */
  get members(): readonly Member[] {
    return this.#groupStatus()?.members ?? [];
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
    return this.#emitter.on(name, listener);
  }

  /** Calls back with the status whenever it changes; returns the function that stops that. */
  onStatus(listener: (status: Status) => void): () => void {
    return this.on("status", listener);
  }

  /** Says good-bye to the relay and gives the database up. What was pushed stays in the outbox. */
  async close(): Promise<void> {
    if (this.#state === "closed") return;
    const group = this.#group;
    this.#end("closed", new ZerokError("closed", "this client was closed"));
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

  get #deviceName(): string {
    return this.#options.name ?? "browser";
  }

  /** Closes the group that this device is alone in, or has left: the next commit replaces it. */
  async #leaveForAnother(): Promise<void> {
    const group = this.#openOrThrow();
    const { from, to } = CoreEngine.hotRange();
    const rows = await this.#storage.scan(from, to, Number.MAX_SAFE_INTEGER);
    const former = callCore(() => CoreFormer.open(this.#storeKey, rows));
    try {
      callCore(() => former.checkFree());
    } finally {
      former.free();
    }
    this.#end("empty", new ZerokError("closed", "this device is joining another group"));
    group.core.close();
    await group.host.settle();
    this.#storage.replaceNext(true);
  }

  /** Queues what this device wrote in the group that it joined this one from. */
  async #bringAlong({ core, pushes }: OpenGroup): Promise<void> {
    const { from, to } = CoreEngine.hotRange();
    const rows = await this.#storage.scanFormer(from, to, Number.MAX_SAFE_INTEGER);
    const former = callCore(() => CoreFormer.open(this.#storeKey, rows));
    try {
      for (const range of CoreFormer.ranges() as KeyRange[]) {
        for (let next = range.from; ; ) {
          const page = await this.#storage.scanFormer(next, range.to, BRING_BYTES);
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

  /** Opens the engine on what storage holds and goes online. */
  async #openGroup(): Promise<void> {
    const { from, to } = CoreEngine.hotRange();
    const rows = await this.#storage.scan(from, to, Number.MAX_SAFE_INTEGER);
    if (this.#state === "closed") throw new ZerokError("closed", "this client was closed");
    const host = new MachineHost<CoreEngine>(
      this.#storage,
      (events) => this.#onEvents(events),
      (error) => this.#stop(error),
    );
    const core = host.attach(
      callCore(() => CoreEngine.open(host, this.#storeKey, randomBytes(32), rows)),
    );
    callCore(() => core.setMirrorPolicy(this.#options.mirror ?? "own"));
    const { position, processed, everywherePush } = core.status();
    const pushes = new Pushes(everywherePush);
    this.#group = { core, host, doorbell: new Doorbell(position), pushes, processed: new Tier(processed) };
    if (core.isBringing()) await this.#bringAlong(this.#group);
    callCore(() => core.start());
    this.#enter("open");
  }

  /** Opens a group just stored. If that fails, this client must not take the storage for empty. */
  async #openNewGroup(): Promise<void> {
    try {
      await this.#openGroup();
    } catch (error) {
      this.#stop(asZerokError(error));
      throw error;
    }
  }

  #onEvents(events: readonly CoreEvent[]): void {
    const group = this.#group;
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
          this.#emitter.emit("reset", { position: event.position });
          break;
        case "compaction_advised":
          this.#emitter.emit("compact", { logBytes: event.logBytes, snapshotBytes: event.snapshotBytes });
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
          this.#emitter.emit("whisper", { device: event.device, data: event.data });
          break;
        case "push_refused":
          group.pushes.onRefused(event.push, ZerokError.from(event.failure));
          break;
        case "member_joined":
          this.#emitter.emit("member", { device: event.device, name: event.name });
          break;
        case "member_removed":
          this.#emitter.emit("removed", { device: event.device, name: event.name });
          break;
        case "integrity":
          this.#emitter.emit("integrity", event.finding);
          break;
        case "storage_failed":
          this.#stop(ZerokError.from(event.failure));
          return;
        default:
          this.#invitation?.handle(event);
      }
    }
    this.#tellStatus();
  }

  #tellStatus(): void {
    if (this.#emitter.hears("status")) this.#emitter.emit("status", this.status);
  }

  #groupStatus(): GroupStatus | undefined {
    if (this.#group === undefined) return undefined;
    const { problem, ...rest } = this.#group.core.status();
    return { ...rest, problem: problem && ZerokError.from(problem) };
  }

  #openOrThrow(): OpenGroup {
    if (this.#group !== undefined) return this.#group;
    throw (
      this.#stoppedBy ??
      (this.#state === "closed"
        ? new ZerokError("closed", "this client was closed: open another")
        : new ZerokError("no_group", "there is no group here yet: create one or join one"))
    );
  }

  #expectEmpty(): void {
    if (this.#state === "empty") return;
    if (this.#state === "open") {
      throw new ZerokError("already_in_group", "this device is in a group already: open another database for another");
    }
    if (this.#state === "joining") throw new ZerokError("busy", "this device is being added to a group already");
    this.#openOrThrow();
  }

  #enter(state: Status["state"]): void {
    this.#state = state;
    this.#tellStatus();
  }

  #backToEmpty(error: unknown): ZerokError {
    if (this.#state === "joining") this.#enter("empty");
    return error instanceof DOMException && error.name === "AbortError"
      ? new ZerokError("cancelled", "cancelled")
      : asZerokError(error);
  }

  /** The group cannot go on in this run: memory may be ahead of what is on disk. */
  #stop(error: ZerokError): void {
    if (this.#state === "stopped" || this.#state === "closed") return;
    const group = this.#group;
    this.#stoppedBy = error;
    this.#end("stopped", error);
    group?.host.stop();
    this.#giveUpDatabase();
  }

  /** Tells everybody who waits for something that it will not come. */
  #end(state: Exclude<Status["state"], "open">, error: ZerokError): void {
    const group = this.#group;
    this.#group = undefined;
    group?.doorbell.end(state === "stopped" ? error : undefined);
    group?.pushes.end(error);
    group?.processed.refuseAll(error);
    this.#invitation?.fail(error);
    this.#arrival?.fail(error);
    this.#enter(state);
  }

  #giveUpDatabase(): void {
    this.#stopWatching();
    this.#storage.close();
    this.#unlock();
  }
}

function originOf(relay: string): string {
  const url = URL.canParse(relay) ? new URL(relay) : undefined;
  if (url?.protocol === "https:" || url?.protocol === "http:") return url.origin;
  throw new ZerokError("invalid_argument", `"${relay}" is no relay's address: it should look like https://relay.example`);
}
