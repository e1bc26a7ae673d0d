// One graph of the status page: lines over time, drawn as SVG.

const SVG = "http://www.w3.org/2000/svg";
const SERIES_CLASSES = ["first", "second", "third"];
/** Room for the numbers at the left, the times below, and half a line at the other edges. */
const MARGIN = { left: 52, right: 8, top: 7, bottom: 18 };
/** Below this width two times less fit below the graph. */
const NARROW_PX = 320;
const MINUTE_MS = 60_000;
const LABEL_STEPS_MS = [15_000, 30_000, MINUTE_MS, 2 * MINUTE_MS, 5 * MINUTE_MS, 10 * MINUTE_MS];

/** An element with a class and children. */
export function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function drawn(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The smallest of 1, 2, 5, 10, 20, … (or powers of two times these, for bytes) that is not below. */
export function niceStep(rough, base) {
  if (base === 1024) {
    let unit = 1;
    while (rough / unit >= 1024) unit *= 1024;
    const steps = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
    return unit * (steps.find((step) => step * unit >= rough) ?? 1024);
  }
  const unit = 10 ** Math.floor(Math.log10(rough));
  return unit * [1, 2, 5, 10].find((step) => step * unit >= rough * 0.999);
}

/**
 * @typedef {object} Plan
 * @property {string} title
 * @property {string} unit behind the title
 * @property {[column: string, label: string][]} series
 * @property {(value: number) => string} format
 * @property {number} [base] 1024 for bytes
 * @property {number} [least] the highest number of the axis is at least this
 */

/** See above. `onPoint` is told the time under the pointer, or `null`. */
export class Chart {
  #plan;
  #svg = drawn("svg", { role: "img" });
  #time = element("span", "");
  #values;
  #samples = [];
  #window_ms = 1;
  #at = null;

  /** @param {Plan} plan */
  constructor(plan, onPoint) {
    this.#plan = plan;
    this.#values = plan.series.map(() => element("b", ""));
    const legend = plan.series.map(([, label], index) => element("li", SERIES_CLASSES[index], `${label} `, this.#values[index]));
    this.root = element("section", "chart", element("h2", "", plan.title, this.#time), element("ul", "", ...legend), this.#svg);
    const point = ({ offsetX }) => onPoint(this.#timeAt(offsetX));
    this.#svg.addEventListener("pointermove", point);
    this.#svg.addEventListener("pointerdown", point);
    this.#svg.addEventListener("pointerleave", () => onPoint(null));
    new ResizeObserver(() => this.#draw()).observe(this.#svg);
  }

  /** Shows other samples (`{ time, [column]: number | null }`) of a window of this length. */
  show(samples, window_ms) {
    this.#samples = samples;
    this.#window_ms = window_ms;
    this.#draw();
  }

  /** Marks a moment, or none. */
  mark(time) {
    this.#at = time;
    this.#draw();
  }

  get #size() {
    return { width: this.#svg.clientWidth, height: this.#svg.clientHeight };
  }

  #timeAt(x) {
    const last = this.#samples.at(-1);
    if (!last) return null;
    const share = (x - MARGIN.left) / (this.#size.width - MARGIN.left - MARGIN.right);
    return last.time - (1 - Math.min(Math.max(share, 0), 1)) * this.#window_ms;
  }

  #draw() {
    const { series, format, unit, title } = this.#plan;
    const { width, height } = this.#size;
    const last = this.#samples.at(-1);
    if (!last || width < MARGIN.left + MARGIN.right + 10) return;

    const seen = series.map(([column]) => this.#samples.map((sample) => sample[column]));
    const highest = Math.max(this.#plan.least ?? 1, ...seen.flat().filter((value) => value !== null));
    const step = niceStep(highest / 3, this.#plan.base);
    const top = Math.ceil(highest / step - 1e-9) * step;
    const x = (time) => MARGIN.left + (1 - (last.time - time) / this.#window_ms) * (width - MARGIN.left - MARGIN.right);
    const y = (value) => MARGIN.top + (1 - value / top) * (height - MARGIN.top - MARGIN.bottom);

    const parts = [];
    for (let value = 0; value <= top * 1.001; value += step) {
      const at = Math.round(y(value)) + 0.5;
      parts.push(drawn("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at }));
      parts.push(drawn("text", { x: MARGIN.left - 6, y: at + 3.5, "text-anchor": "end" }, format(value)));
    }
    const labels_max = width < NARROW_PX ? 2 : 3;
    const every = LABEL_STEPS_MS.find((step) => this.#window_ms / step <= labels_max) ?? LABEL_STEPS_MS.at(-1);
    for (let ago = 0; ago <= this.#window_ms; ago += every) {
      const at = x(last.time - ago);
      const anchor = ago === 0 ? "end" : at < MARGIN.left + 20 ? "start" : "middle";
      const text = ago === 0 ? "now" : ago < MINUTE_MS ? `−${ago / 1000} s` : `−${ago / MINUTE_MS} min`;
      parts.push(drawn("text", { x: at, y: height - 4, "text-anchor": anchor }, text));
    }
    // The first on top: where lines lie on one another, it is the one that is seen.
    for (const [index, values] of [...seen.entries()].reverse()) {
      parts.push(drawn("path", { class: SERIES_CLASSES[index], d: this.#line(values, x, y) }));
    }

    const marked = this.#at === null ? last : nearest(this.#samples, this.#at);
    if (this.#at !== null) {
      const at = x(marked.time);
      parts.push(drawn("line", { class: "cursor", x1: at, x2: at, y1: MARGIN.top, y2: height - MARGIN.bottom }));
    }
    this.#svg.replaceChildren(...parts);
    this.#time.textContent = this.#at === null ? unit : new Date(marked.time).toLocaleTimeString();
    series.forEach(([column], index) => {
      this.#values[index].textContent = marked[column] === null ? "–" : format(marked[column]);
    });
    const words = series.map(([, label], index) => `${label} ${this.#values[index].textContent}`);
    this.#svg.setAttribute("aria-label", `${title}, ${unit}: ${words.join(", ")}; highest shown ${format(highest)}`);
  }

  /** Where there is no value the line is interrupted; a value between two gaps is a dot. */
  #line(values, x, y) {
    let path = "";
    let isDown = false;
    values.forEach((value, index) => {
      if (value === null) {
        isDown = false;
        return;
      }
      const at = `${x(this.#samples[index].time).toFixed(1)} ${y(value).toFixed(1)}`;
      path += isDown ? `L${at}` : `M${at}l0 0`;
      isDown = true;
    });
    return path;
  }
}

function nearest(samples, time) {
  let best = samples[0];
  for (const sample of samples) {
    if (Math.abs(sample.time - time) < Math.abs(best.time - time)) best = sample;
  }
  return best;
}
