// The invitation in this page's own address: everything behind the `#`.

const INVITATION = /^#0k\d+\./;

/** The whole link, if this page was opened by one. */
export function openedLink(): string | undefined {
  return INVITATION.test(location.hash) ? location.href : undefined;
}

/** Takes the secret out of the address bar, the history and later screenshots. */
export function forgetOpenedLink(): void {
  history.replaceState(null, "", location.pathname + location.search);
}

/** The page that invitations made here open. */
export function pageAddress(): string {
  return location.origin + location.pathname;
}
