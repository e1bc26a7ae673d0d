// Which devices may be lost, since the group was brought back from its words: kept over a reload until
// they are removed. A device that joins later is not among them.

const KEY = "0k-sync-notes:lost-devices";

export function saveLost(devices: readonly string[]): void {
  try {
    if (devices.length === 0) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, JSON.stringify(devices));
  } catch {
    // A browser that keeps nothing: the reminder is gone with the page.
  }
}

export function loadLost(): readonly string[] {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(value) ? value.filter((device) => typeof device === "string") : [];
  } catch {
    return [];
  }
}
