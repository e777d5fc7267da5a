// Prints what a page of many samples costs: `(cd tests/page && npm ci) && node benches/page.mjs`.
//
// File size, time from opening to the frame after the first drawing, and times of zooms whose samples were not decoded
// before, in headless Chromium without a GPU. Also the worst data: 1e7 numbers that don't compress.

import { statSync } from 'node:fs';
import { launch, makePage, open, settled } from '../tests/page/browser.mjs';

const INTERVAL = 5;
const RUNS = 5;

/** Times in milliseconds of zooms to `count` neighbouring samples, at places spread over the whole. */
function zooms(page, count) {
  return page.evaluate(async ([count, interval]) => {
    const { span, charts } = globalThis.unclosed;
    const plot = charts.get(0).plot;
    const [first, last] = span.whole;
    const times = [];
    for (let run = 1; run <= 10; run++) {
      const from = first + (last - first - count * interval) * ((run * 0.618) % 1);
      const drawn = new Promise(resolve => plot.addEventListener('drawn', resolve, { once: true }));
      const start = performance.now();
      span.show(from, from + count * interval);
      await drawn;
      // The frame that shows it has been painted when the task after the next frame runs.
      await new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));
      times.push(performance.now() - start);
    }
    return times;
  }, [count, INTERVAL]);
}

const sorted = times => times.toSorted((a, b) => a - b);
const median = times => sorted(times)[times.length >> 1].toFixed(0);
const worst = times => sorted(times).at(-1).toFixed(0);

const browser = await launch();
console.log('samples  data      MB     first drawing ms   zoom to 50%   to 100,000   to 1,000   (median / worst, ms)   JS heap MB');
for (const [count, kind] of [[1e5, 'walk'], [1e6, 'walk'], [1e7, 'walk'], [1e7, 'gaussian'], [1e7, 'uniform']]) {
  const path = makePage(kind, count);
  const first = [];
  let rest;
  for (let run = 0; run < RUNS; run++) {
    const { page, close } = await open(browser, path);
    await settled(page);
    first.push(await page.evaluate(() => performance.getEntriesByName('first-drawing')[0].startTime));
    if (run === RUNS - 1) {
      const cells = [];
      for (const width of [count / 2, 100_000, 1_000]) {
        const times = await zooms(page, Math.min(width, count / 2));
        cells.push(`${median(times)} / ${worst(times)}`);
      }
      const heap = await page.evaluate(() => performance.memory.usedJSHeapSize / 1e6);
      rest = [...cells.map(cell => cell.padEnd(12)), heap.toFixed(0)];
    }
    await close();
  }
  const size = (statSync(path).size / 1e6).toFixed(2);
  console.log([count.toExponential(0).padEnd(8), kind.padEnd(9), size.padEnd(6), `${median(first)} / ${worst(first)}`.padEnd(18), ...rest].join(' '));
}
await browser.close();
