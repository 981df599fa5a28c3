// A map of the demo archive on one canvas: reads TileJSON, fetches vector tiles, draws them.
// Mapbox Vector Tile 2.1; the browser undoes the gzip that the tiles are stored in.

const SIZE = 512; // CSS pixels along a tile at its own zoom
const COLOURS = matchMedia("(prefers-color-scheme: dark)").matches
  ? { land: "#3c4f3f", coast: "#6f8a74", line: "rgba(255,255,255,.12)", city: "#ffb26b", text: "#e6eef2" }
  : { land: "#e9e2cf", coast: "#9c9478", line: "rgba(0,0,0,.12)", city: "#b3411e", text: "#23313a" };

const canvas = document.getElementById("map");
const context = canvas.getContext("2d");
const state = document.getElementById("state");
const tiles = new Map(); // "z/x/y" -> layers, or null while it is fetched or where there is none
const view = { x: 0.53, y: 0.42, zoom: 1.2 }; // centre on the unit square
let source;

function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const value = varint();
    if ((tag & 7) === 2) {
      yield [tag >> 3, bytes.subarray(at, at + value)];
      at += value;
    } else yield [tag >> 3, value];
  }
}

function numbers(bytes) {
  const found = [];
  for (let at = 0; at < bytes.length; ) {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) break;
    }
    found.push(value);
  }
  return found;
}

const text = (bytes) => new TextDecoder().decode(bytes);
const signed = (value) => (value >>> 1) ^ -(value & 1);

function decode(bytes) {
  const layers = {};
  for (const [field, body] of fields(bytes)) {
    if (field !== 3) continue;
    const layer = { features: [], keys: [], values: [] };
    for (const [part, value] of fields(body)) {
      if (part === 1) layers[text(value)] = layer;
      if (part === 2) layer.features.push(Object.fromEntries(fields(value)));
      if (part === 3) layer.keys.push(text(value));
      if (part === 4) layer.values.push(...[...fields(value)].map(([, word]) => text(word)));
    }
  }
  return layers;
}

function trace(geometry, toX, toY, point) {
  const words = numbers(geometry);
  let x = 0, y = 0;
  for (let at = 0; at < words.length; ) {
    const command = words[at] & 7;
    const count = words[at++] >> 3;
    if (command === 7) context.closePath();
    else for (let n = 0; n < count; n++) {
      x += signed(words[at++]);
      y += signed(words[at++]);
      if (point) point(toX(x), toY(y));
      else if (command === 1) context.moveTo(toX(x), toY(y));
      else context.lineTo(toX(x), toY(y));
    }
  }
}

async function load(key, url) {
  tiles.set(key, null);
  const answer = await fetch(url);
  if (answer.status === 200) tiles.set(key, decode(new Uint8Array(await answer.arrayBuffer())));
  requestAnimationFrame(draw);
}

function draw() {
  const ratio = devicePixelRatio || 1;
  const width = (canvas.width = canvas.clientWidth * ratio);
  const height = (canvas.height = canvas.clientHeight * ratio);
  const scale = SIZE * 2 ** view.zoom * ratio; // device pixels along the whole world
  const left = view.x * scale - width / 2;
  const top = view.y * scale - height / 2;
  const z = Math.max(source.minzoom, Math.min(source.maxzoom, Math.floor(view.zoom)));
  const side = scale / 2 ** z;
  const labels = [];
  let shown = 0;
  for (let x = Math.max(0, Math.floor(left / side)); x < 2 ** z && x * side < left + width; x++) {
    for (let y = Math.max(0, Math.floor(top / side)); y < 2 ** z && y * side < top + height; y++) {
      const key = `${z}/${x}/${y}`;
      if (!tiles.has(key)) {
        load(key, source.tiles[0].replace("{z}", z).replace("{x}", x).replace("{y}", y));
      }
      const layers = tiles.get(key);
      if (!layers) continue;
      shown++;
      const toX = (value) => x * side - left + (value * side) / 4096;
      const toY = (value) => y * side - top + (value * side) / 4096;
      context.save();
      context.beginPath();
      context.rect(toX(0), toY(0), side, side);
      context.clip();
      for (const feature of layers.land?.features ?? []) {
        context.beginPath();
        trace(feature[4], toX, toY);
        context.fillStyle = COLOURS.land;
        context.fill("evenodd");
        context.strokeStyle = COLOURS.coast;
        context.stroke();
      }
      context.strokeStyle = COLOURS.line;
      for (const feature of layers.graticule?.features ?? []) {
        context.beginPath();
        trace(feature[4], toX, toY);
        context.stroke();
      }
      context.restore();
      for (const feature of layers.cities?.features ?? []) {
        const name = layers.cities.values[numbers(feature[2])[1]];
        trace(feature[4], toX, toY, (px, py) => labels.push([name, px, py]));
      }
    }
  }
  context.font = `${12 * ratio}px system-ui, sans-serif`;
  for (const [name, x, y] of labels) {
    context.fillStyle = COLOURS.city;
    context.fillRect(x - 2 * ratio, y - 2 * ratio, 4 * ratio, 4 * ratio);
    context.fillStyle = COLOURS.text;
    if (view.zoom > 1.9) context.fillText(name, x + 5 * ratio, y + 4 * ratio);
  }
  state.textContent = `zoom ${view.zoom.toFixed(1)}, ${shown} tiles of ${source.name ?? "world"}`;
}

function listen() {
  canvas.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    const scale = SIZE * 2 ** view.zoom;
    view.x = Math.min(1, Math.max(0, view.x - event.movementX / scale));
    view.y = Math.min(1, Math.max(0, view.y - event.movementY / scale));
    requestAnimationFrame(draw);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    view.zoom = Math.min(source.maxzoom + 1.5, Math.max(0, view.zoom - event.deltaY / 400));
    requestAnimationFrame(draw);
  }, { passive: false });
  addEventListener("resize", () => requestAnimationFrame(draw));
}

source = await (await fetch("world.json")).json();
document.getElementById("credit").textContent = source.attribution ?? "";
listen();
draw();
