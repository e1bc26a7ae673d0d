import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { defineConfig } from "vite";

/** During `npm run dev` the relay runs at its default address. */
const RELAY = "http://127.0.0.1:8080";

/** Shorter files fit into the packets that are sent anyway. */
const COMPRESSED_BYTES_MIN = 1024;

/**
 * Puts `x.br` and `x.gz` beside each file `x` that gets smaller. The relay sends these as they
 * are: so the wasm travels at a third of its size, and nobody can make a relay compress.
 */
function compressed() {
  let folder;
  return {
    name: "compressed",
    apply: "build",
    configResolved: (config) => void (folder = resolve(config.root, config.build.outDir)),
    closeBundle() {
      const names = readdirSync(folder, { recursive: true }).filter((name) => /\.(?:html|js|css|svg|wasm)$/.test(name));
      for (const name of names) {
        const path = join(folder, name);
        const bytes = readFileSync(path);
        if (bytes.length < COMPRESSED_BYTES_MIN) continue;
        const brotli = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } });
        const gzip = gzipSync(bytes, { level: constants.Z_BEST_COMPRESSION });
        if (brotli.length < bytes.length) writeFileSync(`${path}.br`, brotli);
        if (gzip.length < bytes.length) writeFileSync(`${path}.gz`, gzip);
      }
    },
  };
}

export default defineConfig({
  plugins: [compressed()],
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
