// How the status page words a value: what formats.py does for the page as it is sent.
// A format gets a JSON value and returns text; null is NOTHING.

export const NOTHING = "–";
const LEAST_MS = 0.5;
const MOST_MS = 5120;

// Python's rounding: toFixed, but a half that is one to the last bit goes to the even digit.
function fixed(value, digits) {
  const scaled = value * 10 ** digits;
  const isHalf = Number.isInteger(value * 2 ** (digits + 1)) && scaled % 1 === 0.5;
  if (!isHalf) return value.toFixed(digits);
  return ((2 * Math.round(scaled / 2)) / 10 ** digits).toFixed(digits);
}

function grouped(text) {
  const [whole, rest] = text.split(".");
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? `.${rest}` : "");
}

function size(count) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (count < 1024) return unit === "B" ? `${fixed(count, 0)} B` : `${fixed(count, 1)} ${unit}`;
    count /= 1024;
  }
  return `${fixed(count, 1)} TiB`;
}

function milliseconds(value) {
  if (value >= 1000) return `${fixed(value / 1000, 1)} s`;
  return value < 10 ? `${fixed(value, 1)} ms` : `${fixed(value, 0)} ms`;
}

function latency(value) {
  if (value <= LEAST_MS) return `≤ ${LEAST_MS.toFixed(1)} ms`;
  return value >= MOST_MS ? `≥ ${(MOST_MS / 1000).toFixed(2)} s` : milliseconds(value);
}

function rate(value) {
  if (value <= 0) return "0";
  return value < 10 ? fixed(value, 1) : grouped(fixed(value, 0));
}

function percent(value) {
  return value >= 1 ? "100 %" : `${(Math.floor(value * 10000 + 1e-9) / 100).toFixed(2)} %`;
}

function duration(seconds) {
  const whole = Math.floor(seconds);
  const parts = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  return parts.filter(([number]) => number).slice(0, 2).map((part) => part.join(" ")).join(" ") || "0 s";
}

function readiness(status) {
  const missing = Object.entries(status.gates).filter(([, holds]) => !holds).map(([name]) => name);
  if (missing.length) return `Not ready: ${missing.join(", ")}`;
  return status.degraded ? "Ready, degraded" : "Ready";
}

function reload(told) {
  if (told.running) return "running";
  if (told.result === "none") return "none since the start";
  return [told.result, told.at, told.reason].filter(Boolean).join(" ");
}

export const FORMATS = {
  text: String,
  name: (value) => String(value) || "/",
  count: (value) => grouped(String(Math.trunc(value))),
  rate,
  rate_bytes: (value) => `${size(value)}/s`,
  bytes: size,
  ms: milliseconds,
  latency,
  percent,
  duration,
  seconds: (value) => `${fixed(value, 0)} s`,
  holds: (value) => (value ? "holds" : "missing"),
  readiness,
  reload,
  zooms: (pack) => (pack.min_zoom === null ? NOTHING : `${pack.min_zoom} to ${pack.max_zoom}`),
  link: String,
};

export const STATES = {
  holds: (value) => (value ? "good" : "bad"),
  readiness: (status) => (status.ready ? (status.degraded ? "warn" : "good") : "bad"),
  reload: (told) => (told.result === "failed" ? "bad" : "good"),
};

export function spoken(name, value) {
  return value === null || value === undefined ? NOTHING : FORMATS[name](value);
}
