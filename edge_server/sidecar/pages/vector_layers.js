// Which layers a vector tile has, for archives that do not say so themselves.
// Mapbox Vector Tile 2.1 section 4.1: field 3 of a tile is a layer, field 1 of a layer its name.

// Yields [number, bytes] of the fields that have a length; throws RangeError on what is no Protocol Buffer.
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      if (at >= bytes.length || factor > 2 ** 49) throw new RangeError("a number that does not end");
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const type = tag % 8;
    if (type === 0) varint();
    else if (type === 2) {
      const length = varint();
      if (at + length > bytes.length) throw new RangeError("a field past the end");
      yield [Math.floor(tag / 8), bytes.subarray(at, (at += length))];
    } else throw new RangeError(`wire type ${type}`);
  }
}

export function layerNames(tile) {
  const names = [];
  for (const [number, layer] of fields(tile)) {
    if (number !== 3) continue;
    for (const [part, value] of fields(layer)) if (part === 1) names.push(new TextDecoder().decode(value));
  }
  return names;
}

// Returns the document with the layers of its lowest tile at a place, where it names none.
export async function withLayers(told, { z, x, y }) {
  if (told.format !== "pbf" || told.vector_layers?.length) return told;
  const answer = await fetch(told.tiles[0].replace("{z}", z).replace("{x}", x).replace("{y}", y));
  if (answer.status !== 200) return told;
  try {
    const names = layerNames(new Uint8Array(await answer.arrayBuffer()));
    return { ...told, vector_layers: names.map((id) => ({ id })) };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return told;
  }
}
