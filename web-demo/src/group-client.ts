// This browser's one client: opened again whenever the device is to have another name.

import { Client, type ZerokError } from "@0k-sync/client";

import { loadDeviceName, saveDeviceName } from "./device-name.ts";

/** The relay that serves this page is the one on which this page makes groups. */
const RELAY = location.origin;
const DATABASE = "notes";

let current: { readonly client: Client; readonly name: string } | undefined;

/** Opens the client under the last used name. */
export function openClient(onWarning: (message: string) => void): Promise<Client> {
  return open(loadDeviceName(), onWarning);
}

/** The client under this name; only for a device that is in no group yet. */
export async function renamedClient(name: string, onWarning: (message: string) => void): Promise<Client> {
  if (current?.name === name) return current.client;
  saveDeviceName(name);
  await current?.client.close();
  return open(name, onWarning);
}

/** The client that is open now. */
export function currentClient(): Client | undefined {
  return current?.client;
}

/** Whether another tab has the database. */
export function isOpenElsewhere(error: unknown): boolean {
  return error instanceof Error && (error as Partial<ZerokError>).code === "database_in_use";
}

async function open(name: string, onWarning: (message: string) => void): Promise<Client> {
  const client = await Client.open({
    relay: RELAY,
    database: DATABASE,
    name,
    onWarning: ({ message }) => onWarning(message),
  });
  current = { client, name };
  return client;
}
