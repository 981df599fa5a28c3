// The status page, kept up to date: asks /api/status every second, and says so when nobody answers.

import { bind } from "/pages/bindings.js";
import { Chart, History } from "/pages/charts.js";

const EVERY_MS = 1000;
const WITHIN_MS = 4000; // an answer that takes longer is none
const LOST_AFTER_MS = 3500; // one answer may come late without anybody being told

const history = new History();
const charts = [...document.querySelectorAll("figure.chart")].map((figure) => new Chart(figure, history));
const freshness = document.getElementById("freshness");
const stale = document.getElementById("stale");
let answeredAt = performance.now(); // the page itself was an answer
let answeredDate = new Date();
let timer = 0;
let isAsking = false;
let identity = ""; // of the instance and generation that is shown
document.getElementById("charts-section").hidden = false;

async function ask() {
  const answer = await fetch(`/api/status?history=${history.last}`, {
    cache: "no-store",
    signal: AbortSignal.timeout(WITHIN_MS),
  });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

function show(status) {
  if (history.add(status.history)) return false; // of another sidecar: what it has kept is asked for anew
  bind(document, status);
  for (const chart of charts) chart.draw();
  const now = `${status.ready} ${status.generation}`;
  if (now !== identity) document.title = `${status.ready ? "" : "not ready · "}svc-edge status`;
  identity = now;
  return true;
}

function tell() {
  const age = performance.now() - answeredAt;
  const isLost = age > LOST_AFTER_MS;
  document.body.classList.toggle("lost", isLost);
  freshness.textContent = isLost ? "not live" : "live";
  stale.hidden = !isLost;
  if (!isLost) return;
  const text = `No answer since ${answeredDate.toLocaleTimeString()}. What stands below is from then, not from now.`;
  if (stale.textContent !== text) stale.textContent = text;
}

async function turn() {
  if (isAsking) return;
  isAsking = true;
  clearTimeout(timer);
  try {
    const status = await ask();
    if (!show(status)) show(await ask());
    answeredAt = performance.now();
    answeredDate = new Date();
  } catch (error) {
    console.debug("no answer:", error.message);
  }
  isAsking = false;
  tell();
  timer = setTimeout(turn, EVERY_MS);
}

// A browser slows the timers of a page that nobody sees.
document.addEventListener("visibilitychange", () => document.hidden || turn());
setInterval(tell, 500);
turn();
