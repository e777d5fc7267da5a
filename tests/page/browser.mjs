// Opens pages in headless Chromium, as a reader would: from a file, with no network.

import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const ROOT = new URL('../..', import.meta.url).pathname;

/** Pages are made here; set PAGES to keep them. */
export const FOLDER = process.env.PAGES ?? mkdtempSync(join(tmpdir(), 'unclosed-pages-'));

/** Makes a page with `examples/page_fixture.rs`; PAGE_FIXTURE names the built program. */
export function makePage(kind, count) {
  const path = join(FOLDER, `${kind}${count ?? ''}.html`);
  const what = [path, kind, ...(count === undefined ? [] : [String(count)])];
  const built = process.env.PAGE_FIXTURE;
  if (built) execFileSync(built, what);
  else execFileSync('cargo', ['run', '--quiet', '--release', '--example', 'page_fixture', '--', ...what], { cwd: ROOT, stdio: 'inherit' });
  return path;
}

/** The browser, with its own talking to the network turned off. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
}

/** Opens a page; `trouble` collects console errors and requests for anything but the file itself. */
export async function open(browser, path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1300, height: 900 }, timezoneId: 'Europe/Berlin', ...options });
  const page = await context.newPage();
  const trouble = [];
  const address = pathToFileURL(path).href;
  page.on('console', message => ['error', 'warning'].includes(message.type()) && trouble.push(message.text()));
  page.on('pageerror', error => trouble.push(String(error)));
  page.on('request', request => request.url() !== address && trouble.push(`asked for ${request.url()}`));
  await page.goto(address);
  return { page, trouble, close: () => context.close() };
}

/** Waits until the first chart shows what its span deserves. */
export async function settled(page, index = 0) {
  await page.waitForFunction(index => {
    const chart = globalThis.unclosed?.charts.get(index);
    return chart?.chart && !chart.stale && !chart.span.scheduled;
  }, index);
}

/** Shows a span of time and waits for its drawing. */
export async function show(page, from, to, index = 0) {
  await page.evaluate(([from, to, index]) => new Promise(resolve => {
    const { span, charts } = globalThis.unclosed;
    charts.get(index).plot.addEventListener('drawn', resolve, { once: true });
    span.show(from, to);
  }), [from, to, index]);
  await settled(page, index);
}
