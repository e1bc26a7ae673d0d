// Keeps own changes that are still on their way over a reload. The client has them safe in its
// outbox whatever happens here; this is only what the page shows until they come back.

import type { Change } from "./note-blob.ts";

const KEY = "0k-sync-notes:waiting";

type Waiting = readonly { readonly change: Change; readonly at: number }[];

export function saveWaiting(waiting: Waiting): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(waiting));
  } catch {
    // A browser that keeps nothing: unsent notes are shown again once they were sent.
  }
}

export function loadWaiting(): Waiting {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(value) ? value.filter(isWaiting) : [];
  } catch {
    return [];
  }
}

function isWaiting(value: unknown): value is Waiting[number] {
  if (typeof value !== "object" || value === null || !("at" in value) || !("change" in value)) return false;
  const { at, change } = value;
  if (typeof at !== "number" || typeof change !== "object" || change === null) return false;
  if (!("id" in change && "kind" in change) || typeof change.id !== "string") return false;
  return change.kind === "remove" || (change.kind === "add" && "text" in change && typeof change.text === "string");
}
