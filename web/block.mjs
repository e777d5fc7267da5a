// Unpacks blocks of columns; their form is described in `src/store/block.rs`.

/** The powers of ten that a column's scale may name. */
const POWERS_OF_TEN = [1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/**
 * The columns of a block. A hole is a `NaN`.
 * @param {string} text the block in base64
 * @returns {Promise<Float64Array[]>}
 */
export async function decodeBlock(text) {
  const plain = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  const bytes = new Uint8Array(await new Response(plain).arrayBuffer());
  const columns = [];
  for (let at = 0; at < bytes.length;) {
    const column = decodeColumn(bytes, at);
    columns.push(column.values);
    at = column.end;
  }
  return columns;
}

/** @param {string} base64 */
function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/**
 * @param {Uint8Array} bytes
 * @param {number} at where the column begins
 * @returns {{values: Float64Array, end: number}}
 */
function decodeColumn(bytes, at) {
  const [form, scale, holes, width] = bytes.subarray(at, at + 4);
  const count = new DataView(bytes.buffer, bytes.byteOffset + at + 4, 4).getUint32(0, true);
  at += 8;
  const present = holes ? bytes.subarray(at, at + ((count + 7) >> 3)) : null;
  at += present ? present.length : 0;
  let there = count;
  if (present) {
    there = 0;
    for (let i = 0; i < count; i++) there += (present[i >> 3] >> (i & 7)) & 1;
  }
  const end = at + width * there;
  if (end > bytes.length) throw new Error('a block of samples ends inside a column');
  const numbers = decodeNumbers(bytes.subarray(at, end), form, scale, width, there);
  return { values: present ? spread(numbers, present, count) : numbers, end };
}

/**
 * The numbers of a column. 64 bits are more than a float holds exactly, so they are added up in two halves, with the
 * carry between them; the sums are exact in a float again.
 */
function decodeNumbers(planes, form, scale, width, count) {
  const low = new Int32Array(count);
  const high = new Int32Array(count);
  for (let plane = 0; plane < width; plane++) {
    const half = plane < 4 ? low : high;
    const shift = (plane & 3) * 8;
    const start = plane * count;
    for (let i = 0; i < count; i++) half[i] |= planes[start + i] << shift;
  }
  const values = new Float64Array(count);
  // Little-endian, as every machine is that runs a browser.
  if (form === 3) {
    const bits = new DataView(values.buffer);
    for (let i = 0; i < count; i++) {
      bits.setInt32(8 * i, low[i], true);
      bits.setInt32(8 * i + 4, high[i], true);
    }
    return values;
  }
  const divisor = POWERS_OF_TEN[scale];
  let sumLow = 0, sumHigh = 0, slopeLow = 0, slopeHigh = 0;
  for (let i = 0; i < count; i++) {
    const sign = -(low[i] & 1);
    let addLow = ((low[i] >>> 1) | (high[i] << 31)) ^ sign;
    let addHigh = (high[i] >>> 1) ^ sign;
    if (form === 0) sumLow = sumHigh = 0;
    if (form === 2) {
      const total = (slopeLow >>> 0) + (addLow >>> 0);
      slopeHigh = (slopeHigh + addHigh + (total > 0xffffffff ? 1 : 0)) | 0;
      slopeLow = total | 0;
      addLow = slopeLow;
      addHigh = slopeHigh;
    }
    const total = (sumLow >>> 0) + (addLow >>> 0);
    sumHigh = (sumHigh + addHigh + (total > 0xffffffff ? 1 : 0)) | 0;
    sumLow = total | 0;
    values[i] = (sumHigh * 4294967296 + (sumLow >>> 0)) / divisor;
  }
  return values;
}

/** Puts the numbers where the bits of `present` are set, and `NaN` elsewhere. */
function spread(numbers, present, count) {
  const values = new Float64Array(count).fill(NaN);
  for (let i = 0, next = 0; i < count; i++) {
    if ((present[i >> 3] >> (i & 7)) & 1) values[i] = numbers[next++];
  }
  return values;
}
