/**
 * Calls `wake` when the network may be back or the page is being looked at again; returns the
 * function that stops it. In workers and in Node fewer or none of these events exist.
 */
export function watchForWake(wake: () => void): () => void {
  const stopper = new AbortController();
  const { signal } = stopper;
  if (typeof addEventListener === "function") {
    addEventListener("online", wake, { signal });
    addEventListener("pageshow", wake, { signal });
  }
  if (typeof document !== "undefined") {
    const visible = () => {
      if (document.visibilityState === "visible") wake();
    };
    document.addEventListener("visibilitychange", visible, { signal });
  }
  return () => stopper.abort();
}
