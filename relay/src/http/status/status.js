// The relay's status page: asks for what is new once a second and draws it. Everything it shows
// comes from /status.json of the relay that served it; the token, where one is needed, is kept in
// this variable and nowhere else.

import { Chart, element } from "./chart.js";

let token = null;

/** Tiles show the mean of so many seconds, so that they can be read. */
const TILE_SAMPLES = 10;
const RETRY_MS = 2_000;
const WINDOW_MS_MIN = 60_000;
const DATABASE = "Database connections";

function scaled(value, base, units) {
  let unit = 0;
  while (value >= base * 0.9995 && unit < units.length - 1) {
    value /= base;
    unit += 1;
  }
  const digits = value === 0 || value >= 100 || (unit === 0 && Number.isInteger(value)) ? 0 : value >= 10 ? 1 : 2;
  return `${Number(value.toFixed(digits))}${units[unit]}`;
}

const count = (value) => scaled(value, 1000, ["", "k", "M", "G"]);
const bytes = (value) => scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
const milliseconds = (value) => (value >= 1000 ? scaled(value / 1000, 1000, [" s"]) : scaled(value, 1000, [" ms"]));

/** @type {import("./chart.js").Plan[]} */
const PLANS = [
  { title: "Pushes", unit: "per second", format: count, series: [["pushes", "pushes"], ["entries_stored", "new entries"]] },
  { title: "Deliveries", unit: "entries per second", format: count, series: [["delivered_inline", "from memory"], ["delivered_stored", "from the store"]] },
  { title: "Commit until on disk", unit: "time", format: milliseconds, series: [["commit_p50_ms", "half below"], ["commit_p99_ms", "99 % below"]] },
  { title: "Push until acknowledged", unit: "time", format: milliseconds, series: [["append_p50_ms", "half below"], ["append_p99_ms", "99 % below"]] },
  { title: "Connections", unit: "open", format: count, least: 3, series: [["connections_websocket", "WebSocket"], ["connections_iroh", "iroh"], ["sessions", "sessions"]] },
  { title: "Traffic", unit: "bytes per second", format: bytes, base: 1024, least: 3, series: [["bytes_in", "in"], ["bytes_out", "out"]] },
  { title: "Refusals", unit: "per second", format: count, series: [["refusals", "by a limit"], ["handshakes_failed", "handshakes failed"]] },
  { title: "Appends that wait", unit: "for a writer", format: count, least: 3, series: [["append_queue", "waiting"]] },
  { title: "Fresh entries that wait", unit: "for live subscribers", format: bytes, base: 1024, least: 3, series: [["fanout_bytes", "in memory"]] },
  { title: "Stored", unit: "envelopes", format: bytes, base: 1024, least: 3, series: [["stored_bytes", "in the store"]] },
  { title: DATABASE, unit: "in use", format: count, least: 3, series: [["store_connections_used", "in use"]] },
  { title: "Memory", unit: "of the process", format: bytes, base: 1024, series: [["resident_bytes", "resident"]] },
];

const byId = (id) => document.getElementById(id);
const charts = PLANS.map((plan) => new Chart(plan, (time) => charts.forEach((chart) => chart.mark(time))));
byId("charts").append(...charts.map((chart) => chart.root));

/** @type {Record<string, number | null>[]} */
let samples = [];
let next = 0;
let last_answer = null;

class TokenNeeded extends Error {}

async function ask() {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(`/status.json?from=${next}`, { headers, cache: "no-store" });
  if (response.status === 401) throw new TokenNeeded();
  if (!response.ok) throw new Error(`the relay answered ${response.status}`);
  return response.json();
}

/** Adds the new rows. A relay that was restarted numbers from the beginning. */
function take(status) {
  const rows = status.rows.map((row, index) => ({
    time: status.times[index],
    ...Object.fromEntries(row.map((value, column) => [status.columns[column], value])),
  }));
  samples = (status.next < next ? rows : [...samples, ...rows]).slice(-status.samples_max);
  next = status.next;
}

function mean(column) {
  const values = samples.slice(-TILE_SAMPLES).map((sample) => sample[column]).filter((value) => value !== null);
  return values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);
}

function show(status) {
  const now = samples.at(-1);
  byId("state").textContent = { ready: "ready", store: "storage unavailable", draining: "shutting down" }[status.readiness];
  byId("state").dataset.state = status.readiness === "ready" ? "ready" : "bad";
  byId("about").textContent = `version ${status.version}, running for ${duration(status.uptime_seconds)}`;
  if (!now) return;
  const { process } = status;
  const tiles = [
    ["Pushes", `${count(Math.round(mean("pushes")))}/s`],
    ["Deliveries", `${count(Math.round(mean("delivered_inline") + mean("delivered_stored")))}/s`],
    ["Connections", count(now.connections_websocket + now.connections_iroh), `of ${count(status.connections_max)}`],
    ["Sessions", count(now.sessions)],
    ["Groups", count(now.groups)],
    ["Stored", bytes(now.stored_bytes)],
    ["Memory", process.resident_bytes === null ? "–" : bytes(process.resident_bytes)],
    ["Open files", process.open_fds === null ? "–" : count(process.open_fds), process.max_fds === null ? "" : `of ${count(process.max_fds)}`],
  ];
  byId("tiles").replaceChildren(
    ...tiles.map(([name, value, of = ""]) => element("div", "", element("dt", "", name), element("dd", "", `${value} `, element("small", "", of)))),
  );
  table("refusals", status.refusals, "Nothing was refused.");
  table("handshakes", status.handshakes, "There was none.");
  // A file needs no connections.
  charts[PLANS.findIndex((plan) => plan.title === DATABASE)].root.hidden = status.store_connections_max === 0;
  // A young relay's minutes are not squeezed into a corner.
  const seen_ms = Math.max(now.time - samples[0].time, WINDOW_MS_MIN);
  for (const chart of charts) chart.show(samples, Math.min(seen_ms, status.interval_ms * status.samples_max));
}

function table(id, counts, otherwise) {
  const rows = counts.filter(([, counted]) => counted > 0).map(([name, counted]) =>
    element("tr", "", element("th", "", name), element("td", "", counted.toLocaleString("en"))));
  const empty = element("tr", "", element("th", "", otherwise));
  byId(id).tBodies[0].replaceChildren(...(rows.length > 0 ? rows : [empty]));
}

function duration(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min` : `${seconds} s`;
}

function askForToken() {
  byId("refused").hidden = token === null;
  token = null;
  byId("state").textContent = "for the operator";
  byId("state").dataset.state = "asking";
  byId("numbers").hidden = true;
  byId("ask").hidden = false;
  byId("token").focus();
}

function lost() {
  const since = last_answer === null ? "" : ` for ${duration(Math.round((Date.now() - last_answer) / 1000))}`;
  byId("state").textContent = `no answer${since}`;
  byId("state").dataset.state = "bad";
}

async function round() {
  try {
    const status = await ask();
    last_answer = Date.now();
    byId("numbers").hidden = false;
    byId("ask").hidden = true;
    take(status);
    show(status);
    setTimeout(round, status.interval_ms);
  } catch (error) {
    if (error instanceof TokenNeeded) return askForToken();
    lost();
    setTimeout(round, RETRY_MS);
  }
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value;
  byId("token").value = "";
  round();
});

round();
