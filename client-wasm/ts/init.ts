import startWasm from "./zerok_sync_wasm.js";

/** What `init` takes: the `.wasm` file's bytes, a compiled module, a response, or where to fetch it. */
export type WasmSource = BufferSource | WebAssembly.Module | Response | URL | string;

let started: Promise<void> | undefined;

/**
 * Loads the wasm module. Calling it is optional: `Client.open` does it, from the `.wasm` file that
 * lies beside this module. Call it first to load from elsewhere or earlier. Later calls wait for
 * the first; after a failure the next call tries again.
 *
 * @example
 * await init(await readFile("zerok_sync_wasm_bg.wasm")); // Node
 */
export function init(source?: WasmSource): Promise<void> {
  started ??= load(source).catch((error: unknown) => {
    started = undefined;
    throw error;
  });
  return started;
}

async function load(source: WasmSource | undefined): Promise<void> {
  await startWasm({ module_or_path: source ?? new URL("./zerok_sync_wasm_bg.wasm", import.meta.url) });
}
