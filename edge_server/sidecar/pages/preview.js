// The map of one tile pack. What the archive says of itself is only ever set as text.

import { FORMATS } from "/pages/formats.js";
import { withLayers } from "/pages/vector_layers.js";
import * as maplibregl from "/pages/vendor/maplibre-gl.mjs";

const main = document.querySelector("main");
const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
const SOURCE = "pack";
const GROUND = isDark ? "#10202b" : "#d6e6ee";
const INK = isDark ? "#e6edf3" : "#17202a";
// Paul Tol's muted scheme, light enough to lie on either ground.
const COLOURS = isDark
  ? ["#7a9a76", "#88ccee", "#ddcc77", "#cc6677", "#b58ccc", "#44aa99", "#e0a458", "#9fb3c8"]
  : ["#a3b18a", "#4477aa", "#998033", "#b3445a", "#7d4a97", "#2f8577", "#b8691c", "#6c7f92"];
const KINDS = { fill: "Polygon", line: "LineString", circle: "Point" };

const byId = (id) => document.getElementById(id);
const colourOf = (index) => COLOURS[index % COLOURS.length];

function fail(text) {
  const note = document.createElement("p");
  note.className = "absent";
  note.setAttribute("role", "alert");
  note.textContent = text;
  byId("map").append(note);
}

// One style layer for each kind of shape that a vector layer may have.
function layersOf(id, index) {
  const colour = colourOf(index);
  const base = (kind) => ({
    id: `${index}-${kind}`,
    type: kind,
    source: SOURCE,
    "source-layer": id,
    filter: ["==", ["geometry-type"], KINDS[kind]],
  });
  return [
    { ...base("fill"), paint: { "fill-color": colour, "fill-opacity": 0.55, "fill-outline-color": colour } },
    {
      ...base("line"),
      paint: { "line-color": colour, "line-width": ["interpolate", ["linear"], ["zoom"], 2, 0.7, 12, 2] },
    },
    {
      ...base("circle"),
      paint: {
        "circle-color": colour,
        "circle-radius": ["interpolate", ["linear"], ["zoom"], 1, 3, 12, 6],
        "circle-stroke-color": isDark ? "#0f151b" : "#fff",
        "circle-stroke-width": 1.2,
      },
    },
  ];
}

function styleOf(told) {
  const isVector = ["pbf", "mlt"].includes(told.format);
  const source = {
    type: isVector ? "vector" : "raster",
    tiles: told.tiles.map((each) => location.origin + each),
    minzoom: told.minzoom,
    maxzoom: told.maxzoom,
    ...(told.bounds ? { bounds: told.bounds } : {}),
    ...(told.format === "mlt" ? { encoding: "mlt" } : {}),
    ...(isVector ? {} : { tileSize: 256 }),
  };
  const ground = { id: "ground", type: "background", paint: { "background-color": GROUND } };
  const vector = (told.vector_layers ?? []).flatMap((layer, index) => layersOf(layer.id, index));
  // Lines lie on fills and points on lines, whatever the order of the layers in the pack.
  const order = ["fill", "line", "circle"];
  vector.sort((one, other) => order.indexOf(one.type) - order.indexOf(other.type));
  const raster = { id: "raster", type: "raster", source: SOURCE };
  return { version: 8, sources: { [SOURCE]: source }, layers: [ground, ...(isVector ? vector : [raster])] };
}

function toggle(map, text, colour, ids) {
  const item = document.createElement("li");
  const label = document.createElement("label");
  const box = document.createElement("input");
  const swatch = document.createElement("span");
  box.type = "checkbox";
  box.checked = true;
  swatch.className = "swatch";
  swatch.style.background = colour;
  label.append(box, swatch, text);
  item.append(label);
  byId("layers").append(item);
  box.addEventListener("change", () => {
    for (const id of ids) map.setLayoutProperty(id, "visibility", box.checked ? "visible" : "none");
  });
}

function listLayers(map, told) {
  const layers = told.vector_layers ?? [];
  layers.forEach((layer, index) => {
    toggle(map, layer.id, colourOf(index), Object.keys(KINDS).map((kind) => `${index}-${kind}`));
  });
  if (map.getLayer("raster")) toggle(map, "pictures", INK, ["raster"]);
  else if (!layers.length) {
    const note = document.createElement("li");
    note.className = "dim";
    note.textContent = "Neither the archive nor its lowest tile names a layer, so there is nothing to draw.";
    byId("layers").append(note);
  }
}

// The tile of the pack that is drawn at a place; above maxzoom it is one of maxzoom, enlarged.
function tileAt(told, zoom, { lng, lat }) {
  const isVector = ["pbf", "mlt"].includes(told.format);
  // Pictures are half as wide as vector tiles, and MapLibre takes those of the nearest zoom.
  const wanted = isVector ? Math.floor(zoom + 1e-6) : Math.round(zoom + 1);
  const z = Math.max(told.minzoom, Math.min(told.maxzoom, wanted));
  const side = 2 ** z;
  const turned = (((lng + 180) % 360) + 360) % 360;
  const south = Math.log(Math.tan(Math.PI / 4 + (Math.max(-85.05, Math.min(85.05, lat)) * Math.PI) / 360));
  const within = (value) => Math.max(0, Math.min(side - 1, Math.floor(value * side)));
  return { z, x: within(turned / 360), y: within((1 - south / Math.PI) / 2) };
}

const sizes = new Map(); // address -> text, once it is known

async function tellSize(url) {
  if (!sizes.has(url)) {
    sizes.set(url, "…");
    try {
      const answer = await fetch(url, { method: "HEAD" });
      const coding = answer.headers.get("Content-Encoding");
      const bytes = Number(answer.headers.get("Content-Length"));
      sizes.set(url, answer.status === 204 ? "no tile here" : `${FORMATS.bytes(bytes)}${coding ? `, ${coding}` : ""}`);
    } catch {
      sizes.delete(url);
      return;
    }
  }
  if (byId("size").dataset.url === url) byId("size").textContent = sizes.get(url);
}

function follow(map, told) {
  let waiting = 0;
  map.on("mousemove", (event) => {
    const { z, x, y } = tileAt(told, map.getZoom(), event.lngLat);
    const url = told.tiles[0].replace("{z}", z).replace("{x}", x).replace("{y}", y);
    byId("position").textContent = `${event.lngLat.lat.toFixed(4)}, ${event.lngLat.lng.toFixed(4)}`;
    byId("tile").textContent = `${z}/${x}/${y}`;
    byId("size").dataset.url = url;
    byId("size").textContent = sizes.get(url) ?? "…";
    clearTimeout(waiting);
    waiting = setTimeout(() => tellSize(url), 120);
  });
}

function pair(name, text) {
  const row = document.createElement("div");
  const term = document.createElement("dt");
  const value = document.createElement("dd");
  term.textContent = name;
  value.textContent = text;
  row.append(term, value);
  return row;
}

function tellFeature(features) {
  const found = features.slice(0, 8).map((feature) => {
    const list = document.createElement("dl");
    list.className = "facts-list feature";
    list.append(pair("layer", feature.sourceLayer), pair("shape", feature.geometry.type));
    for (const [name, value] of Object.entries(feature.properties)) list.append(pair(name, String(value)));
    return list;
  });
  const note = document.createElement("p");
  note.className = "dim";
  note.textContent = features.length ? "" : "Nothing there.";
  byId("feature").replaceChildren(...(found.length ? found : [note]));
}

async function start() {
  const answer = await fetch(main.dataset.tilejson);
  if (!answer.ok) return fail(`The document of this pack cannot be had: status ${answer.status}.`);
  const plain = await answer.json();
  const [lng, lat] = plain.center ?? [0, 0];
  const told = await withLayers(plain, tileAt(plain, plain.minzoom, { lng, lat }));
  let map;
  try {
    map = new maplibregl.Map({
      container: "map",
      style: styleOf(told),
      hash: true,
      attributionControl: false, // it takes markup from the archive; the panel has it as text
      maxZoom: Math.min(24, told.maxzoom + 4),
      ...(told.center ? { center: told.center.slice(0, 2), zoom: told.center[2] } : {}),
    });
  } catch {
    return fail("This browser does not draw with WebGL, which the map needs.");
  }
  window.map = map; // for whoever looks at it in the console
  map.addControl(new maplibregl.NavigationControl(), "top-right");
  map.addControl(new maplibregl.ScaleControl());
  map.on("error", (event) => console.error(event.error?.message ?? "map error"));
  const hasPlace = location.hash.length > 1;
  map.once("load", () => {
    listLayers(map, told);
    main.dataset.state = "loaded";
  });
  map.on("idle", () => (main.dataset.idle = String(Number(main.dataset.idle ?? 0) + 1)));
  if (!hasPlace && told.bounds && !(told.center?.[2] > 0)) map.fitBounds(told.bounds, { animate: false, padding: 12 });
  follow(map, told);
  map.on("click", (event) => tellFeature(map.queryRenderedFeatures(event.point)));
  byId("grid").addEventListener("change", (event) => (map.showTileBoundaries = event.target.checked));
}

start();
