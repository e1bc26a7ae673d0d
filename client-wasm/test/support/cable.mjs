// A TCP proxy whose cable can be pulled: everything through it is cut at once, and refused until
// it is plugged in again.

import { connect, createServer } from "node:net";

/** Starts a proxy to the relay at `url`. */
export async function startCable(url) {
  const { hostname, port } = new URL(url);
  const open = new Set();
  let plugged = true;

  const server = createServer((near) => {
    if (!plugged) return near.destroy();
    const far = connect(Number(port), hostname);
    for (const [socket, other] of [[near, far], [far, near]]) {
      open.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        open.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

  const cut = () => {
    for (const socket of open) socket.destroy();
  };
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    pull() {
      plugged = false;
      cut();
    },
    plugIn() {
      plugged = true;
    },
    async stop() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
