// The page: puts the facts of the file into its frame. Runs while the file is still being read.

import { button, element, prose } from './element.mjs';
import { bytes, duration, moment, offset, quantity } from './format.mjs';
import { Layers } from './layers.mjs';
import { drawSpanTools, Span } from './span.mjs';
import { Chart, EVENT_SIGNS, seriesInWords } from './chart.mjs';
import { badge, drawVerdict } from './verdict.mjs';
import { Resources } from './resources.mjs';

/** Events and notes that are listed at once; the rest on demand. */
const LISTED = 50;

const byId = id => document.getElementById(id);
const facts = JSON.parse(byId('facts').textContent);

drawHead();
drawVerdict(byId('verdict'), facts);
const span = new Span(...wholeSpan());
drawSpanTools(byId('span'), span);
const charts = new Map();
drawSeries();
drawList(byId('events'), facts.events, event => element('li', {},
  element('span', { class: 'quiet' }, `${moment(event.at)} ${EVENT_SIGNS[event.kind] ?? '◆'} `), event.text));
drawList(byId('notes'), facts.notes, note => element('li', {}, ...prose(note)));
if (facts.cost) {
  const memory = facts.cost.memory_bytes == null ? '' : ` and ${bytes(facts.cost.memory_bytes)} of memory`;
  byId('cost').textContent = `Watching cost ${duration(facts.cost.cpu_seconds)} of CPU${memory}.`;
}
if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', drawResources, { once: true });
else drawResources();

// Measured by `benches/page.mjs`: the frame after the first drawing.
document.addEventListener('drawn', () => requestAnimationFrame(() => performance.mark('first-drawing')), { once: true });

/** For the console, and for the tests of this page. */
globalThis.unclosed = { facts, span, charts };

function drawHead() {
  const { target, from, to, ticks, file } = facts;
  const name = target?.name || file || 'a recording';
  document.title = `${name}: ${facts.verdict?.kind ?? 'not judged'} (unclosed)`;
  byId('target').textContent = name;
  const processes = target?.processes ?? [];
  const of = processes.length === 1 ? `process ${processes[0].pid} of ${processes[0].user}` : processes.length > 1 ? `${quantity(processes.length, '1')} processes` : null;
  const when = to > from ? `${moment(from)} to ${moment(to)} (${duration(to - from)})` : moment(from);
  byId('recorded').append([of, when, `${quantity(ticks, '1')} samples`, `times are in your zone, ${offset(to)}`].filter(Boolean).join(' · '));
  if (processes.length > 0) byId('recorded').title = processes.slice(0, 20).map(process => `${process.pid} ${process.command}`).join('\n');
}

/** From the first moment that the report or a series knows to the last. */
function wholeSpan() {
  const blocks = facts.series.flatMap(series => series.layers.at(-1).blocks);
  if (blocks.length === 0) return [facts.from, facts.to];
  return blocks.reduce(([from, to], [first, last]) => [Math.min(from, first), Math.max(to, last)], [Infinity, -Infinity]);
}

function drawSeries() {
  const box = byId('charts');
  if (facts.series.length === 0) {
    box.append(element('p', { class: 'quiet' }, 'There is no sample in this recording.'));
    return;
  }
  const others = element('details', { class: 'others' });
  facts.series.forEach((series, index) => {
    const about = [badge(series.verdict.kind), element('span', { class: 'quiet' }, seriesInWords(series))];
    const name = series.pid == null ? series.name : `${series.name} (process ${series.pid})`;
    if (series.shown) {
      const figure = element('article', { class: 'series', 'aria-label': name }, element('div', { class: 'series-head' }, element('h3', {}, name), ...about));
      box.append(figure);
      drawChart(figure, series, index);
    } else {
      const figure = element('details', { class: 'series', ontoggle: () => charts.has(index) || drawChart(figure, series, index) },
        element('summary', { class: 'series-head' }, element('h3', {}, name), ...about));
      others.append(figure);
    }
  });
  const hidden = others.childElementCount;
  if (hidden > 0) {
    others.prepend(element('summary', {}, `${hidden} more series`));
    box.append(others);
  }
  box.append(element('p', { class: 'quiet hint' },
    'Drag to zoom, Shift and drag to move, double-click to show all. A chart that was clicked zooms with the wheel and the arrow keys.'));
}

function drawChart(figure, series, index) {
  if (series.verdict.sentence && series.verdict.sentence !== facts.verdict?.sentence) {
    figure.append(element('p', { class: 'series-verdict' }, ...prose(series.verdict.sentence)));
  }
  const gaps = facts.gaps.filter(([, , name]) => name == null || name === series.name);
  const layers = new Layers(index, series.layers, gaps);
  charts.set(index, new Chart(figure, series, layers, span, { gaps, events: facts.events }));
}

/** A list that is left out where it is empty and shortened where it is long. */
function drawList(section, items, draw) {
  section.hidden = items.length === 0;
  const list = element('ul', { class: 'plain' }, ...items.slice(0, LISTED).map(draw));
  section.append(list);
  if (items.length > LISTED) {
    const all = button(`Show all ${quantity(items.length, '1')}`, 'Show the whole list', () => {
      list.append(...items.slice(LISTED).map(draw));
      all.remove();
    });
    section.append(all);
  }
}

function drawResources() {
  const box = byId('resources');
  if (facts.target) {
    new Resources(box, byId('resources-tools'), JSON.parse(byId('rows').textContent));
  } else {
    box.append(element('p', {}, 'A log of counts tells how many were open, not which. To see which, record the process itself: ',
      element('code', {}, 'unclosed record -p PID'), '.'));
  }
}
