// The page's decoder against blocks that the Rust side encoded.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decodeBlock } from '../../web/block.mjs';
import { makePage } from './browser.mjs';

test('every column comes back to the bit', async () => {
  const made = JSON.parse(readFileSync(makePage('blocks'), 'utf8'));
  const bits = value => {
    const view = new DataView(new ArrayBuffer(8));
    view.setFloat64(0, value);
    return view.getBigUint64(0).toString(16).padStart(16, '0');
  };
  assert.ok(made.length > 5);
  for (const { block, bits: expected } of made) {
    const columns = await decodeBlock(Buffer.from(block, 'hex').toString('base64'));
    assert.deepEqual(columns.map(column => [...column].map(bits)), expected);
  }
});

test('a block that was cut is an error, not other numbers', async () => {
  const [, { block }] = JSON.parse(readFileSync(makePage('blocks'), 'utf8'));
  await assert.rejects(decodeBlock(Buffer.from(block, 'hex').subarray(0, -3).toString('base64')));
});
