import { defineConfig } from "vite";

/** During `npm run dev` the relay runs at its default address. */
const RELAY = "http://127.0.0.1:8080";

export default defineConfig({
  build: {
    target: "es2022",
    // The relay's Content-Security-Policy allows no data: scripts, and wasm streams better as a file.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: { "/v1": { target: RELAY, ws: true }, "/.well-known": RELAY },
  },
});
