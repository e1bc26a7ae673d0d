export { hi } from "./zerok_sync_wasm.js";
