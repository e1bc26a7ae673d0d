import { qrModules } from "./zerok_sync_wasm.js";

/** A QR code, to be drawn with four modules of white around it. */
export interface QrCode {
  /** Modules in a row, and rows. */
  readonly size: number;
  /** Row by row: 1 is dark. */
  readonly modules: Uint8Array;
  /** The dark modules as the `d` of an SVG `<path>`, in a `viewBox` of `-4 -4 size+8 size+8`. */
  readonly path: string;
}

/**
 * The code of a text that fits one; `undefined` for a longer one.
 *
 * @internal
 */
export function qrCodeOf(text: string): QrCode | undefined {
  const modules = qrModules(text);
  if (modules === undefined) return undefined;
  const size = Math.sqrt(modules.length);
  const path = Array.from(modules, (dark, at) => (dark ? `M${at % size} ${Math.floor(at / size)}h1v1h-1z` : ""));
  return { size, modules, path: path.join("") };
}
