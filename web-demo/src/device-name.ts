// What this device calls itself towards the others.

const KEY = "0k-sync-notes:device-name";

export const DEVICE_NAME_CHARS_MAX = 40;

/** The name last used here, else one made of what the browser tells about itself. */
export function loadDeviceName(): string {
  try {
    return localStorage.getItem(KEY) ?? guessDeviceName(navigator.userAgent);
  } catch {
    return guessDeviceName(navigator.userAgent);
  }
}

export function saveDeviceName(name: string): void {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // Asked for again next time.
  }
}

/** A person's words for a browser and what it runs on. The first match counts: most browsers claim to be others too. */
export function guessDeviceName(userAgent: string): string {
  const first = (names: readonly (readonly [RegExp, string])[], otherwise: string) =>
    names.find(([pattern]) => pattern.test(userAgent))?.[1] ?? otherwise;
  const browser = first(
    [
      [/Edg(?:e|A|iOS)?\//, "Edge"],
      [/Firefox|FxiOS/, "Firefox"],
      [/Chrom(?:e|ium)|CriOS/, "Chrome"],
      [/Safari/, "Safari"],
    ],
    "Browser",
  );
  const device = first(
    [
      [/iPhone/, "iPhone"],
      [/iPad/, "iPad"],
      [/Android/, "Android"],
      [/CrOS/, "Chromebook"],
      [/Windows/, "Windows"],
      [/Mac OS X/, "Mac"],
      [/Linux/, "Linux"],
    ],
    "this device",
  );
  return `${browser} on ${device}`;
}
