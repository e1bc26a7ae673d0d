// Where the relay is going to listen, known before anything is built for it.

import { createServer } from "node:net";

const DEFAULT = "127.0.0.1:8080";

/** The relay's `ADDR:PORT`, from its flags, its environment variable, or its default. */
export function relayAddress(args, env) {
  const at = args.lastIndexOf("--listen");
  if (at !== -1 && args[at + 1] !== undefined) return args[at + 1];
  const joined = args.findLast((arg) => arg.startsWith("--listen="));
  return joined?.slice("--listen=".length) ?? env.ZEROK_RELAY_LISTEN ?? DEFAULT;
}

/** Whether another program has that address already. Anything else that is wrong with it the relay will say. */
export async function isTaken(address) {
  const { host, port } = /^\[?(?<host>.*?)\]?:(?<port>\d+)$/.exec(address)?.groups ?? {};
  if (port === undefined || Number(port) > 65_535) return false;
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", ({ code }) => resolve(code === "EADDRINUSE"));
    server.listen(Number(port), host, () => server.close(() => resolve(false)));
  });
}
