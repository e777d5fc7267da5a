// A series in layers: the envelope's levels, and below them the samples. A view is drawn from the coarsest layer that
// still has an item a pixel, so that no more is decoded than can be seen.

import { decodeBlock } from './block.mjs';

/**
 * What is drawn. Where `exact`, `middle` are the samples themselves; else each item is a bucket of up to `samples`
 * samples, from `low` over their median to `high`. A `null` in `middle` is a hole.
 * @typedef {{exact: boolean, samples: number, x: number[], low: (number|null)[], middle: (number|null)[],
 *   high: (number|null)[]}} Slice
 */

/** How many decoded blocks are kept: 65,536 samples take 1 MiB, so 32 MiB in all. */
const KEPT_MAX = 32;

/** Decoded blocks by id, the one used last at the end; a promise while it is being decoded. */
const kept = new Map();

/** Resolves when the whole file has been read: what is asked for before may not have come yet. */
const fileIsRead = new Promise(resolve => {
  if (typeof document === 'undefined' || document.readyState !== 'loading') resolve();
  else document.addEventListener('DOMContentLoaded', resolve, { once: true });
});

/** @param {string} id @returns {Promise<Float64Array[]>} */
function loadBlock(id) {
  const known = kept.get(id);
  if (known) {
    kept.delete(id);
    kept.set(id, known);
    return known.promise;
  }
  const entry = { columns: null, promise: null };
  entry.promise = (async () => {
    if (!document.getElementById(id)) await fileIsRead;
    entry.columns = await decodeBlock(document.getElementById(id).textContent);
    return entry.columns;
  })();
  // One that failed is tried again when it is asked for again.
  entry.promise.catch(() => kept.delete(id));
  kept.set(id, entry);
  if (kept.size > KEPT_MAX) kept.delete(kept.keys().next().value);
  return entry.promise;
}

export class Layers {
  /**
   * @param {number} index the series' place on the page
   * @param {{samples: number, blocks: [number, number, number][]}[]} layers the coarsest first
   * @param {[number, number][]} gaps holes in time, in Unix seconds, in order
   */
  constructor(index, layers, gaps) {
    this.index = index;
    this.layers = layers;
    this.gaps = gaps;
  }

  /**
   * The items from `from` to `to` and one more on either side, as fine as `pixels` can show.
   * @returns {Promise<Slice>}
   */
  async slice(from, to, pixels) {
    const layer = this.layerFor(from, to, pixels);
    const blocks = await Promise.all(this.blocksOf(layer, from, to).map(loadBlock));
    return this.cut(layer, blocks, from, to);
  }

  /** The same from what is decoded already, however coarse; `null` where nothing is. */
  sliceAtHand(from, to, pixels) {
    for (let layer = this.layerFor(from, to, pixels); layer >= 0; layer--) {
      const blocks = this.blocksOf(layer, from, to).map(id => kept.get(id)?.columns);
      if (blocks.every(Boolean)) return this.cut(layer, blocks, from, to);
    }
    return null;
  }

  /** The coarsest layer with at least an item a pixel between `from` and `to`. */
  layerFor(from, to, pixels) {
    const items = blocks => blocks.reduce((sum, [first, last, count]) => {
      const shared = Math.min(last, to) - Math.max(first, from);
      return sum + (shared < 0 ? 0 : last > first ? count * shared / (last - first) : count);
    }, 0);
    const layer = this.layers.findIndex(({ blocks }) => items(blocks) >= pixels);
    return layer < 0 ? this.layers.length - 1 : layer;
  }

  /** The ids of the blocks that hold `from` to `to` and what is next to it. */
  blocksOf(layer, from, to) {
    const { blocks } = this.layers[layer];
    let begin = blocks.findIndex(([, last]) => last >= from);
    let end = blocks.findLastIndex(([first]) => first <= to);
    if (begin < 0) begin = blocks.length - 1;
    // Where the view begins or ends between two blocks, its neighbour lies in the next one.
    if (begin > 0 && blocks[begin][0] >= from) begin -= 1;
    if (end < blocks.length - 1 && (end < 0 || blocks[end][1] <= to)) end += 1;
    const ids = [];
    for (let block = Math.max(begin, 0); block <= end; block++) ids.push(`s${this.index}l${layer}b${block}`);
    return ids;
  }

  /** @returns {Slice} */
  cut(layer, blocks, from, to) {
    const { samples } = this.layers[layer];
    return samples === 1 ? cutSamples(blocks, this.gaps, from, to) : cutBuckets(blocks, samples, from, to);
  }
}

/** Of each block the items between `from` and `to`, and of all of them one item more on either side. */
function* parts(blocks, times, from, to) {
  const [firsts, lasts] = times;
  // Half a microsecond more: moments come from floats of seconds.
  const countBefore = (column, micros) => blocks.reduce((sum, block) => sum + rank(block[column], micros), 0);
  const begin = countBefore(lasts, from * 1e6 - 0.5) - 1;
  const end = countBefore(firsts, to * 1e6 + 0.5) + 1;
  let offset = 0;
  for (const block of blocks) {
    const length = block[0].length;
    yield [block, Math.max(begin - offset, 0), Math.min(end - offset, length)];
    offset += length;
  }
}

/** How many of a sorted column lie below `limit`. */
function rank(column, limit) {
  let low = 0, high = column.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] < limit) low = middle + 1; else high = middle;
  }
  return low;
}

function cutSamples(blocks, gaps, from, to) {
  const x = [], middle = [];
  let gap = 0;
  for (const [[times, values], begin, end] of parts(blocks, [0, 0], from, to)) {
    for (let i = begin; i < end; i++) {
      const at = times[i] / 1e6;
      const previous = x.length > 0 ? x[x.length - 1] : at;
      while (gap < gaps.length && gaps[gap][1] <= previous) gap += 1;
      const missing = Number.isNaN(values[i]);
      // A step over a gap is broken in its middle, unless a sample beside it is missing anyway.
      if (gap < gaps.length && gaps[gap][0] < at && !missing && x.length > 0 && middle[middle.length - 1] !== null) {
        x.push((previous + at) / 2);
        middle.push(null);
      }
      x.push(at);
      middle.push(missing ? null : values[i]);
    }
  }
  const none = new Array(x.length).fill(null);
  return { exact: true, samples: 1, x, low: none, middle, high: none };
}

function cutBuckets(blocks, samples, from, to) {
  const slice = { exact: false, samples, x: [], low: [], middle: [], high: [] };
  const push = (at, low, middle, high) => {
    slice.x.push(at);
    slice.low.push(low);
    slice.middle.push(middle);
    slice.high.push(high);
  };
  let previous = null;
  for (const [[firsts, lasts, mins, medians, maxes, holes], begin, end] of parts(blocks, [0, 1], from, to)) {
    for (let i = begin; i < end; i++) {
      const first = firsts[i] / 1e6, last = lasts[i] / 1e6;
      if (holes[i] & 1 && previous !== null) push((previous + first) / 2, null, null, null);
      if (holes[i] & 2) {
        // Somewhere inside nothing was measured: its extremes at either end, and a hole between.
        push(first, mins[i], medians[i], maxes[i]);
        push((first + last) / 2, null, null, null);
        push(last, mins[i], medians[i], maxes[i]);
      } else {
        push((first + last) / 2, mins[i], medians[i], maxes[i]);
      }
      previous = last;
    }
  }
  return slice;
}
