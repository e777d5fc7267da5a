// The page in a real browser. `npm ci && node --test` here; needs Debian's chromium and cargo.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, makePage, open, settled, show } from './browser.mjs';

/** As `examples/page_fixture.rs` has them. */
const START = 1_795_457_668;
const INTERVAL = 5;

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

/** Opens a page of that kind, runs `body` on it, and holds it to causing no trouble. */
function onPage(name, kind, count, body) {
  test(name, async () => {
    const { page, trouble, close } = await open(browser, makePage(kind, count));
    try {
      await body(page);
      assert.deepEqual(trouble, []);
    } finally {
      await close();
    }
  });
}

const rowsOf = page => page.locator('#resources tbody tr');
const axis = page => page.evaluate(() => {
  const { min, max } = globalThis.unclosed.charts.get(0).chart.scales.x;
  return [min, max];
});

onPage('the answer and the leaked rows are there', 'leak', undefined, async page => {
  await settled(page);
  assert.match(await page.locator('#verdict').innerText(), /Leak\s+37 of 61 connections .*never closed/s);
  assert.match(await page.locator('#verdict').innerText(), /\+14.2 per hour\s+95%: \+9.8 to \+19.1/);
  assert.equal(await page.locator('#resources tr.leaked').count(), 37);
  assert.match(await page.locator('#recorded').innerText(), /UTC\+01:00/);
  assert.match(await page.locator('footer').innerText(), /Nothing leaves this machine/);
});

onPage('names stay text', 'leak', undefined, async page => {
  await settled(page);
  assert.match(await page.locator('h1').innerText(), /<\/script><img src=x onerror=alert\(1\)>/);
  assert.match(await page.locator('#notes').innerText(), /<img src=x/);
  assert.match(await page.locator('#events').innerText(), /<img src=x/);
  assert.equal(await page.locator('#resources td', { hasText: '<img src=x' }).count(), 1);
  assert.equal(await page.locator('img').count(), 0);
});

test('the policy lets nothing run and nothing be fetched that the page did not bring', async () => {
  const { page, trouble, close } = await open(browser, makePage('leak'));
  await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'globalThis.ran = true';
    document.body.append(script);
  });
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
  assert.equal(await page.evaluate(() => fetch('http://127.0.0.1:9/').then(() => 'fetched', () => 'refused')), 'refused');
  assert.ok(trouble.length >= 2 && trouble.every(line => line.includes('Content Security Policy')), trouble.join('\n'));
  await close();
});

onPage('filter, "leaked only" and sorting work', 'leak', undefined, async page => {
  await settled(page);
  assert.equal(await rowsOf(page).count(), 62);
  await page.getByLabel('leaked only').check();
  assert.equal(await rowsOf(page).count(), 37);
  await page.getByLabel('leaked only').uncheck();
  await page.getByRole('searchbox').fill('6379 tcp');
  assert.equal(await rowsOf(page).count(), 6);
  await page.getByRole('searchbox').fill('');
  const fds = async () => (await rowsOf(page).locator('td:nth-child(2)').allInnerTexts()).map(text => parseInt(text, 10));
  await page.getByRole('button', { name: 'FD', exact: true }).click();
  assert.deepEqual(await fds(), Array.from({ length: 62 }, (_, index) => 71 - index));
  await page.getByRole('button', { name: 'FD', exact: true }).click();
  assert.deepEqual(await fds(), Array.from({ length: 62 }, (_, index) => 10 + index));
  assert.equal(await page.locator('th[aria-sort]').getAttribute('aria-sort'), 'ascending');
});

onPage('dragging, the wheel, keys and a double click change the axis', 'leak', undefined, async page => {
  await settled(page);
  const whole = await axis(page);
  const plot = page.locator('.u-over').first();
  const { x, y, width } = await plot.boundingBox();
  const drag = async (from, to) => {
    await page.mouse.move(x + from * width, y + 50);
    await page.mouse.down();
    await page.mouse.move(x + to * width, y + 60, { steps: 4 });
    await page.mouse.up();
    await settled(page);
  };
  const near = (value, expected, slack) => assert.ok(Math.abs(value - expected) < slack, `${value} for ${expected}`);
  const length = whole[1] - whole[0];
  await drag(0.25, 0.5);
  let [from, to] = await axis(page);
  near(from, whole[0] + length / 4, length / 100);
  near(to, whole[0] + length / 2, length / 100);

  await page.keyboard.down('Shift');
  await drag(0.5, 0.25);
  await page.keyboard.up('Shift');
  near((await axis(page))[0], from + (to - from) / 4, length / 100);

  [from, to] = await axis(page);
  await page.mouse.wheel(0, -300);
  await page.waitForTimeout(100);
  await settled(page);
  near((await axis(page))[1] - (await axis(page))[0], (to - from) / Math.E, length / 100);

  [from, to] = await axis(page);
  await page.keyboard.press('ArrowLeft');
  await page.waitForTimeout(100);
  assert.ok((await axis(page))[0] < from);

  await page.mouse.dblclick(x + width / 2, y + 50);
  await page.waitForTimeout(100);
  await settled(page);
  assert.deepEqual(await axis(page), whole);
});

onPage('a hole stays a hole', 'leak', undefined, async page => {
  await settled(page);
  const slice = await page.evaluate(() => globalThis.unclosed.charts.get(0).slice);
  assert.equal(slice.exact, true);
  const missing = slice.x.filter((_, index) => slice.middle[index] === null);
  assert.equal(missing.filter(at => at > START + 1500 * INTERVAL - 6 && at < START + 1560 * INTERVAL).length, 60);
  assert.ok(missing.includes(START + 1900 * INTERVAL));
});

onPage('the tooltip names value, time and offset', 'leak', undefined, async page => {
  await settled(page);
  const { x, y, width } = await page.locator('.u-over').first().boundingBox();
  await page.mouse.move(x + width * 0.1, y + 60);
  assert.match(await page.locator('.tooltip').first().innerText(), /^2\d\s+2026-11-23 \d\d:\d\d:\d\d UTC\+01:00/);
  await page.mouse.move(x + width * (1530 / 2879), y + 60);
  assert.match(await page.locator('.tooltip').first().innerText(), /not measured: the machine was suspended/);
});

onPage('a limit that would flatten the line is shown on demand', 'leak', undefined, async page => {
  const top = () => page.evaluate(() => [...globalThis.unclosed.charts.values()].find(chart => chart.series.name === 'descriptors').chart.scales.y.max);
  await page.locator('article', { hasText: 'RLIMIT_NOFILE' }).scrollIntoViewIfNeeded();
  await page.waitForFunction(() => [...globalThis.unclosed.charts.values()].find(chart => chart.series.name === 'descriptors').chart);
  assert.ok(await top() < 200);
  await page.getByRole('button', { name: /Show limit 1,024/ }).click();
  await page.waitForTimeout(100);
  assert.ok(await top() > 1024);
});

onPage('other series are drawn when they are opened', 'leak', undefined, async page => {
  await page.getByText('2 more series').click();
  const pipes = page.locator('details.series', { hasText: 'descriptors:pipe' });
  assert.equal(await pipes.locator('canvas').count(), 0);
  await pipes.locator('summary').click();
  await pipes.locator('canvas').waitFor();
});

onPage('one sample among a million is seen', 'spike', 1_000_000, async page => {
  await settled(page);
  const slice = await page.evaluate(() => globalThis.unclosed.charts.get(0).slice);
  assert.equal(slice.exact, false);
  assert.equal(Math.max(...slice.high), 1000 + 666_666 % 3);
  assert.ok(slice.x.length < 20_000);
});

onPage('any 1,000 neighbouring samples of ten million are drawn exactly', 'spike', 10_000_000, async page => {
  const value = index => 20 + (index === 6_666_666 ? 980 : 0) + index % 3;
  // At a block's edge, in the middle, around the spike, at both ends.
  for (const first of [0, 65_536 - 500, 5_000_000, 6_666_166, 9_999_000]) {
    await show(page, START + first * INTERVAL, START + (first + 999) * INTERVAL);
    const { exact, x, middle } = await page.evaluate(() => globalThis.unclosed.charts.get(0).slice);
    assert.equal(exact, true);
    const drawn = x.map((at, index) => [Math.round((at - START) / INTERVAL), middle[index]]);
    // One more on either side, so that the line goes on to the edge.
    const [from, to] = [Math.max(first - 1, 0), Math.min(first + 1001, 10_000_000)];
    assert.deepEqual(drawn, Array.from({ length: to - from }, (_, index) => [from + index, value(from + index)]));
  }
});

onPage('no layer loses the spike, however wide the view', 'spike', 10_000_000, async page => {
  const spike = START + 6_666_666 * INTERVAL;
  for (const samples of [20_000_000, 3_000_000, 300_000, 90_000, 70_000, 5_000]) {
    await show(page, spike - samples / 2 * INTERVAL, spike + samples / 2 * INTERVAL);
    const { exact, low, middle, high, x } = await page.evaluate(() => globalThis.unclosed.charts.get(0).slice);
    assert.equal(Math.max(...(exact ? middle : high)), 1000, `${samples} samples`);
    assert.equal(Math.min(...(exact ? middle : low)), 20);
    assert.ok(x.length < 80_000, `${x.length} items for ${samples} samples`);
  }
});

onPage('of many series the important ones are drawn', 'many', 300, async page => {
  await settled(page);
  assert.deepEqual(await page.locator('#charts > article h3').allInnerTexts(), ['connections', 'descriptors', 'memory']);
  await page.getByText('302 more series').click();
  assert.equal(await page.locator('#charts details canvas').count(), 0);
  await page.locator('details.series').nth(150).locator('summary').click();
  await page.locator('details.series').nth(150).locator('canvas').waitFor();
});

onPage('20,000 rows stay quick', 'rows', 20_000, async page => {
  await settled(page);
  assert.equal(await rowsOf(page).count(), 200);
  await page.getByRole('button', { name: 'Show 200 more' }).or(page.getByText('Show 200 more')).first().click();
  assert.equal(await rowsOf(page).count(), 400);
  await page.getByRole('searchbox').fill('5434');
  assert.match(await page.locator('#resources-tools output').innerText(), /6,6\d\d of 20,000 rows/);
  assert.equal(await page.locator('#resources tr.leaked').count(), 200);
});

onPage('a log has no table and says why', 'log', undefined, async page => {
  await settled(page);
  assert.match(await page.locator('#resources').innerText(), /how many were open, not which/);
  assert.equal(await page.locator('table').count(), 0);
});

onPage('a page without data says so', 'empty', undefined, async page => {
  assert.match(await page.locator('#charts').innerText(), /no sample/);
  assert.match(await page.locator('#verdict').innerText(), /Undecided/);
});
