// Charts of the last minutes: one SVG a figure, drawn anew with each answer. No library, no canvas.
//
// A figure says what it shows: data-title, data-as (a format), data-series="key:name,key:name".

import { NOTHING, spoken } from "/pages/formats.js";

const WIDTH = 320;
const HEIGHT = 120;
const LEFT = 4;
const RIGHT = 4;
const TOP = 10;
const BOTTOM = 16;
const LEAST_MS = 0.25; // where the scale of a latency begins: half of the first bucket
const SVG = "http://www.w3.org/2000/svg";

// The points that the sidecar has kept and those that came since.
export class History {
  constructor() {
    this.forget(0);
  }

  forget(epoch) {
    this.epoch = epoch;
    this.last = 0;
    this.kept = 300;
    this.step = 1;
    this.series = {};
  }

  // Takes new points; true if they are of another sidecar, and must be asked for again from the first one.
  add(told) {
    if (this.epoch !== told.epoch) {
      const isAnother = this.epoch !== 0 && this.last > 0;
      this.forget(told.epoch);
      if (isAnother) return true;
    }
    this.kept = told.kept;
    this.step = told.step_s;
    for (const [name, values] of Object.entries(told.series)) {
      this.series[name] = (this.series[name] ?? []).concat(values).slice(-told.kept);
    }
    this.last = told.last;
    return false;
  }
}

function element(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

// The least round number that is not below a value; for bytes, in powers of 1024.
function ceiling(value, format) {
  if (!(value > 0)) return 1;
  const steps = format === "count" ? [2, 4, 6, 8, 10] : [1, 2, 3, 4, 5, 6, 8, 10]; // half a client is none
  const base = format === "rate_bytes" ? 1024 ** Math.floor(Math.log(value) / Math.log(1024)) : 1;
  const scaled = value / base;
  const power = 10 ** Math.floor(Math.log10(scaled));
  return base * power * steps.find((each) => scaled <= each * power * 1.0001);
}

// A scale from values to shares of the height, and the values that get a line.
function linear(peak, format) {
  const most = ceiling(peak, format);
  return { share: (value) => Math.min(value, most) / most, lines: [0, most / 2, most] };
}

// Latencies differ by factors, so a step up is a factor.
function logarithmic(peak) {
  const decades = Math.max(1, Math.ceil(Math.log10(Math.max(peak, 1)) - 1e-9));
  const most = 10 ** decades;
  const range = Math.log(most / LEAST_MS);
  return {
    share: (value) => Math.max(0, Math.min(1, Math.log(Math.max(value, LEAST_MS) / LEAST_MS) / range)),
    lines: Array.from({ length: decades + 1 }, (_, index) => 10 ** index),
  };
}

export class Chart {
  constructor(figure, history) {
    this.figure = figure;
    this.history = history;
    this.format = figure.dataset.as;
    this.series = figure.dataset.series.split(",").map((pair) => {
      const [key, name] = pair.split(":");
      return { key, name };
    });
    this.at = null; // the point under the pointer
    this.build();
  }

  build() {
    const caption = document.createElement("figcaption");
    const title = document.createElement("b");
    title.textContent = this.figure.dataset.title;
    caption.append(title);
    this.series.forEach((each, index) => {
      const item = document.createElement("span");
      item.className = `legend s${index}`;
      each.value = document.createElement("i");
      item.append(`${each.name} `, each.value);
      caption.append(item);
    });
    this.svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", preserveAspectRatio: "none" });
    this.scale = document.createElement("div");
    this.when = document.createElement("span");
    this.when.className = "when";
    const begin = document.createElement("span");
    begin.className = "begin";
    begin.textContent = "5 min ago";
    const plot = document.createElement("div");
    plot.className = "plot";
    plot.append(this.svg, this.scale, begin, this.when);
    this.figure.replaceChildren(caption, plot);
    plot.addEventListener("pointermove", (event) => this.point(event));
    plot.addEventListener("pointerleave", () => this.point(null));
  }

  point(event) {
    this.at = null;
    if (event) {
      const box = this.svg.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
      this.at = Math.max(0, Math.min(this.history.kept - 1, Math.round(share * (this.history.kept - 1))));
    }
    this.draw();
  }

  draw() {
    if (this.figure.hidden) return;
    const kept = this.history.kept;
    const rows = this.series.map(({ key }) => {
      const values = this.history.series[key] ?? [];
      return Array(kept - values.length).fill(null).concat(values);
    });
    const peak = Math.max(0, ...rows.flat().filter((value) => value !== null));
    const { share, lines } = this.format === "latency" ? logarithmic(peak) : linear(peak, this.format);
    const x = (index) => LEFT + (index / (kept - 1)) * (WIDTH - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - share(value) * (HEIGHT - BOTTOM - TOP);
    const floor = HEIGHT - BOTTOM;
    const parts = [0, ...lines].map((value) =>
      element("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
    rows.forEach((values, index) => {
      const path = trace(values, x, y);
      if (index === 0 && this.series.length < 3) parts.push(element("path", { class: "area", d: area(values, x, y, floor) }));
      parts.push(element("path", { class: `line s${index}`, d: path }));
    });
    const at = this.at ?? kept - 1;
    if (this.at !== null) parts.push(element("line", { class: "cross", x1: x(at), x2: x(at), y1: TOP, y2: floor }));
    this.svg.replaceChildren(...parts);
    rows.forEach((values, index) => (this.series[index].value.textContent = spoken(this.format, values[at])));
    this.label(peak > 0 ? lines.filter((value) => value > 0) : [], y);
    this.when.textContent = this.at === null ? "now" : `${Math.round((kept - 1 - at) * this.history.step)} s ago`;
    this.figure.classList.toggle("back", this.at !== null);
    this.svg.setAttribute("aria-label", this.summary(rows));
  }

  label(lines, y) {
    const labels = lines.map((value) => {
      const label = document.createElement("span");
      label.textContent = spoken(this.format === "latency" ? "ms" : this.format, value);
      label.style.top = `${(y(value) / HEIGHT) * 100}%`;
      return label;
    });
    this.scale.replaceChildren(...labels);
  }

  summary(rows) {
    const told = rows.map((values, index) => {
      const known = values.filter((value) => value !== null);
      const most = known.length ? spoken(this.format, Math.max(...known)) : NOTHING;
      return `${this.series[index].name} now ${spoken(this.format, values.at(-1))}, at most ${most}`;
    });
    return `${this.figure.dataset.title}, last 5 minutes: ${told.join("; ")}`;
  }
}

// A path through the points that are there; where one is missing the line is broken.
function trace(values, x, y) {
  let path = "";
  values.forEach((value, index) => {
    if (value === null) return;
    const isJoined = index > 0 && values[index - 1] !== null;
    path += `${isJoined ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  return path;
}

function area(values, x, y, floor) {
  let path = "";
  values.forEach((value, index) => {
    if (value === null) return;
    if (index === 0 || values[index - 1] === null) path += `M${x(index).toFixed(1)} ${floor}`;
    path += `L${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    if (index === values.length - 1 || values[index + 1] === null) path += `L${x(index).toFixed(1)} ${floor}Z`;
  });
  return path;
}
