// This browser's one client: opened again whenever the device is to have another name, or looks for
// its group at another relay.

import { Client, type ClientOptions } from "@0k-sync/client";

import { loadDeviceName, saveDeviceName } from "./device-name.ts";
import { codeOf } from "./dom.ts";

const DATABASE = "notes";

/** Where a device that is in no group looks for one. */
export type Place = Pick<ClientOptions, "relay" | "relayKey">;

/** The relay that serves this page is the one on which this page makes groups. */
const HERE: Place = { relay: location.origin };

let current: { readonly client: Client; readonly name: string; readonly place: Place } | undefined;

/** Opens the client under the last used name. */
export function openClient(onWarning: (message: string) => void): Promise<Client> {
  return open(loadDeviceName(), HERE, onWarning);
}

/** What was asked for last: who asks next waits for it, for two cannot have the database at once. */
let last: Promise<unknown> = Promise.resolve();

/** The client under this name, at this relay; only for a device that is in no group yet. */
export function newcomer(name: string, onWarning: (message: string) => void, place: Place = HERE): Promise<Client> {
  const next = last.then(() => reopen(name, onWarning, place));
  last = next.catch(() => {});
  return next;
}

async function reopen(name: string, onWarning: (message: string) => void, place: Place): Promise<Client> {
  // One that was stopped, or is still giving up, brings nobody in any more.
  const isFree = current?.client.status.state === "empty";
  if (isFree && current?.name === name && current.place === place) return current.client;
  saveDeviceName(name);
  await current?.client.close();
  return open(name, place, onWarning);
}

/** The client that is open now. */
export function currentClient(): Client | undefined {
  return current?.client;
}

/** Whether another tab has the database. */
export function isOpenElsewhere(error: unknown): boolean {
  return codeOf(error) === "database_in_use";
}

async function open(name: string, place: Place, onWarning: (message: string) => void): Promise<Client> {
  const client = await Client.open({
    ...place,
    database: DATABASE,
    name,
    onWarning: ({ message }) => onWarning(message),
  });
  current = { client, name, place };
  return client;
}
