// The chart of one series: uPlot draws the lines, this module the holes, limits and marks around them.

import { element } from './element.mjs';
import { decimalsFor, moment, offset, quantity, rate } from './format.mjs';

/** The height of the drawing, in CSS pixels. */
const HEIGHT = 220;

/** A limit is drawn without being asked for where the values still move over a third of the height beside it. */
const LIMIT_STRETCH = 3;

/** An event or limit is named by the pointer from so many pixels away. */
const NEAR_PIXELS = 6;

/**
 * How the time axis is labelled, by the step between two labels in seconds: label, and what is put below it where the
 * year, the month, the day ... is another than at the label before (uPlot's form).
 */
const DAY = '\n{YYYY}-{MM}-{DD}';
const TIME_AXIS = [
  [365 * 86400, '{YYYY}', null, null, null, null, null, null, 1],
  [28 * 86400, '{YYYY}-{MM}', null, null, null, null, null, null, 1],
  [86400, '{MM}-{DD}', '\n{YYYY}', null, null, null, null, null, 1],
  [60, '{HH}:{mm}', DAY, null, DAY, null, null, null, 1],
  [1, '{HH}:{mm}:{ss}', DAY, null, DAY, null, null, null, 1],
  [0.001, '{HH}:{mm}:{ss}.{fff}', DAY, null, DAY, null, null, null, 1],
];

/** The signs of the sorts of events. */
export const EVENT_SIGNS = { started: '▲', ended: '▼', restart: '↻', mark: '◆' };

/** Draws one series as the shared span of time moves. */
export class Chart {
  /**
   * @param {HTMLElement} box where it is put
   * @param {object} series of the page's facts
   * @param {import('./layers.mjs').Layers} layers
   * @param {import('./span.mjs').Span} span
   * @param {{gaps: any[], events: any[]}} around
   */
  constructor(box, series, layers, span, around) {
    Object.assign(this, { box, series, layers, span, around });
    this.limits = series.limits.map(limit => ({ ...limit, asked: null }));
    this.tooltip = element('div', { class: 'tooltip', hidden: true });
    this.plot = element('div', {
      class: 'plot', tabindex: 0, role: 'group', 'aria-roledescription': 'chart',
      'aria-label': `Chart of ${series.name}. Arrow keys move and zoom, 0 shows all.`,
    }, this.tooltip);
    this.limitTools = element('div', { class: 'tools' });
    box.append(this.plot, this.limitTools);
    /** What is drawn now. @type {import('./layers.mjs').Slice|null} */
    this.slice = null;
    this.turn = 0;
    this.visible = false;
    this.stale = true;
    this.drawLimitTools();
    this.listen();
    span.onChange(() => this.refresh());
    new ResizeObserver(() => this.resize()).observe(this.plot);
    new IntersectionObserver(([entry]) => {
      this.visible = entry.isIntersecting;
      if (this.visible && this.stale) this.refresh();
    }, { rootMargin: '200px' }).observe(this.plot);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.build());
  }

  /** Draws what is at hand at once, and what the span deserves when it is decoded. */
  async refresh() {
    this.stale = true;
    const width = this.plot.clientWidth;
    if (!this.visible || width === 0) return;
    const turn = ++this.turn;
    const { from, to } = this.span;
    const coarse = this.layers.sliceAtHand(from, to, width);
    if (coarse) this.draw(coarse);
    const slice = await this.layers.slice(from, to, width).catch(problem => this.say(problem));
    if (!slice || turn !== this.turn) return;
    this.stale = false;
    if (!coarse || coarse.samples !== slice.samples) this.draw(slice);
    this.plot.dispatchEvent(new CustomEvent('drawn', { bubbles: true }));
  }

  /** Says why nothing is drawn: a cut file, or a browser that can't inflate. */
  say(problem) {
    this.plot.append(element('p', {}, `This can't be drawn: ${problem.message}`));
  }

  draw(slice) {
    this.slice = slice;
    if (!this.chart) {
      this.build();
      return;
    }
    this.chart.batch(() => {
      this.chart.setData([slice.x, slice.low, slice.high, slice.middle], false);
      this.chart.setScale('x', { min: this.span.from, max: this.span.to });
    });
  }

  build() {
    if (!this.slice) return;
    this.chart?.destroy();
    const style = getComputedStyle(document.documentElement);
    this.color = name => style.getPropertyValue(`--${name}`).trim();
    const line = this.color('line');
    const edge = { stroke: this.color('edge'), width: 1, points: { show: false } };
    const axis = {
      stroke: this.color('quiet'), font: '12px system-ui, sans-serif',
      grid: { stroke: this.color('grid'), width: 1 }, ticks: { stroke: this.color('grid'), width: 1, size: 4 },
    };
    const unit = this.series.unit;
    const powersOfTwo = Array.from({ length: 60 }, (_, power) => 2 ** power);
    this.chart = new uPlot({
      width: this.plot.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      padding: [20, 12, 0, 0],
      scales: {
        x: { time: true, range: () => [this.span.from, this.span.to] },
        y: { range: (_, low, high) => this.rangeOfValues(low, high) },
      },
      axes: [
        { ...axis, space: 90, values: TIME_AXIS },
        {
          ...axis, size: unit === 'By' ? 72 : 56, space: 36, incrs: unit === 'By' ? powersOfTwo : undefined,
          values: (_, ticks) => ticks.map(tick => quantity(tick, unit)),
        },
      ],
      series: [
        {},
        { ...edge },
        { ...edge },
        { stroke: line, width: 1.5, points: { size: 5, fill: line } },
      ],
      bands: [{ series: [2, 1], fill: this.color('band') }],
      cursor: {
        drag: { x: true, y: false, setScale: false },
        points: { size: 7, show: (_, index) => (index === 3 ? undefined : false) },
        y: false,
        sync: { key: 'time', filters: { pub: type => type === 'mousemove' || type === 'mouseleave' } },
        bind: { dblclick: () => () => this.span.reset() },
      },
      hooks: {
        drawClear: [() => this.drawHoles()],
        draw: [() => this.drawAround()],
        setCursor: [() => this.point()],
        setSelect: [() => this.zoomToSelection()],
      },
    }, [this.slice.x, this.slice.low, this.slice.high, this.slice.middle], this.plot);
  }

  resize() {
    if (!this.chart) {
      this.refresh();
    } else if (this.chart.width !== this.plot.clientWidth && this.plot.clientWidth > 0) {
      this.chart.setSize({ width: this.plot.clientWidth, height: HEIGHT });
      this.refresh();
    }
  }

  /** From zero, unless the values lie so close together that zero would hide how they move. */
  rangeOfValues(low, high) {
    if (low == null || high == null) return [0, 1];
    for (const limit of this.limits) {
      if (this.isLimitShown(limit)) high = Math.max(high, limit.value);
    }
    const spread = high - low;
    if (low >= 0 && spread > 0.1 * high) low = 0;
    const room = (high - low || Math.abs(high) || 1) * 0.08;
    return [low === 0 ? 0 : low >= 0 ? Math.max(0, low - room) : low - room, high + room];
  }

  isLimitShown(limit) {
    const { lowest, highest } = this.series;
    return limit.asked ?? limit.value - lowest <= LIMIT_STRETCH * (highest - lowest);
  }

  drawLimitTools() {
    this.limitTools.replaceChildren(...this.limits.map(limit => {
      const shown = this.isLimitShown(limit);
      return element('button', {
        type: 'button', class: 'limit', 'aria-pressed': shown,
        onclick: () => {
          limit.asked = !this.isLimitShown(limit);
          this.drawLimitTools();
          if (this.slice) this.draw(this.slice);
        },
      }, `${shown ? 'Hide' : 'Show'} limit ${quantity(limit.value, this.series.unit)} (${limit.name})`);
    }));
  }

  /** Shades what was not measured. */
  drawHoles() {
    const { ctx, bbox } = this.chart;
    ctx.save();
    ctx.fillStyle = this.color('hole');
    for (const [from, to] of this.around.gaps) {
      if (to < this.span.from || from > this.span.to) continue;
      const left = Math.max(this.chart.valToPos(from, 'x', true), bbox.left);
      const right = Math.min(this.chart.valToPos(to, 'x', true), bbox.left + bbox.width);
      if (right - left >= 1) ctx.fillRect(left, bbox.top, right - left, bbox.height);
    }
    ctx.restore();
  }

  /** Draws limits, events and since when it leaks. */
  drawAround() {
    const { ctx, bbox } = this.chart;
    const scale = devicePixelRatio;
    const right = bbox.left + bbox.width;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.font = `${12 * scale}px system-ui, sans-serif`;
    ctx.lineWidth = scale;
    const upright = (at, color, dash) => {
      const x = Math.round(this.chart.valToPos(at, 'x', true)) + 0.5;
      ctx.strokeStyle = color;
      ctx.setLineDash(dash.map(length => length * scale));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      return x;
    };
    for (const limit of this.limits.filter(limit => this.isLimitShown(limit))) {
      const y = Math.round(this.chart.valToPos(limit.value, 'y', true)) + 0.5;
      ctx.strokeStyle = ctx.fillStyle = this.color('leak');
      ctx.setLineDash([8 * scale, 4 * scale]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(right, y);
      ctx.stroke();
      ctx.textAlign = 'right';
      ctx.fillText(`${limit.name} ${quantity(limit.value, this.series.unit)}`, right - 6 * scale, y + 14 * scale);
    }
    ctx.textAlign = 'center';
    let taken = -Infinity;
    for (const event of this.around.events) {
      if (event.at < this.span.from || event.at > this.span.to) continue;
      // Of several on one spot one is drawn, however many there are; the list below the charts has them all.
      if (this.chart.valToPos(event.at, 'x') - taken < 2) continue;
      taken = this.chart.valToPos(event.at, 'x');
      const x = upright(event.at, this.color('event'), [2, 4]);
      ctx.fillStyle = this.color('quiet');
      ctx.fillText(EVENT_SIGNS[event.kind] ?? '◆', x, bbox.top + bbox.height - 4 * scale);
    }
    const { kind, since } = this.series.verdict;
    if (since != null && (kind === 'leak' || kind === 'plateau') && since >= this.span.from && since <= this.span.to) {
      const x = upright(since, this.color(kind), [4, 3]);
      // Its label stands above the plot, where no line crosses it.
      ctx.restore();
      ctx.save();
      ctx.font = `${12 * scale}px system-ui, sans-serif`;
      ctx.fillStyle = this.color(`${kind}-text`);
      const fits = x + 110 * scale < right;
      ctx.textAlign = fits ? 'left' : 'right';
      ctx.fillText(kind === 'leak' ? 'leaks since here' : 'full since here', x, bbox.top - 5 * scale);
    }
    ctx.restore();
  }

  /** Names what is under the pointer. */
  point() {
    const { left, idx: index } = this.chart.cursor;
    const hidden = left == null || left < 0 || index == null;
    this.tooltip.hidden = hidden;
    if (hidden) return;
    const { slice, span } = this;
    const at = this.chart.posToVal(left, 'x');
    const decimals = decimalsFor((span.to - span.from) / 1000);
    const lines = [];
    const middle = slice.middle[index];
    const gap = this.around.gaps.find(([from, to]) => from < at && at < to);
    const value = number => quantity(number, this.series.unit);
    if (gap) lines.push(`not measured: ${gap[3] || 'no reason is known'}`);
    else if (middle == null) lines.push('not measured');
    else if (slice.exact) lines.push(value(middle));
    else if (slice.low[index] === slice.high[index]) lines.push(value(middle));
    else lines.push(`${value(middle)}, from ${value(slice.low[index])} to ${value(slice.high[index])} in up to ${slice.samples} samples`);
    const shown = gap ? at : slice.x[index];
    const near = this.around.events.filter(event => Math.abs(this.chart.valToPos(event.at, 'x') - left) <= NEAR_PIXELS);
    for (const event of near.slice(0, 4)) lines.push(`${EVENT_SIGNS[event.kind] ?? '◆'} ${event.text}`);
    this.tooltip.replaceChildren(
      element('strong', {}, lines[0]), element('span', { class: 'quiet' }, `${moment(shown, decimals)} ${offset(shown)}`),
      ...lines.slice(1).map(line => element('span', {}, line)));
    const over = this.chart.over;
    const x = over.offsetLeft + left;
    const flip = x > this.plot.clientWidth / 2;
    this.tooltip.style.left = flip ? '' : `${x + 14}px`;
    this.tooltip.style.right = flip ? `${this.plot.clientWidth - x + 14}px` : '';
  }

  zoomToSelection() {
    const { left, width } = this.chart.select;
    if (width < 3) return;
    this.span.show(this.chart.posToVal(left, 'x'), this.chart.posToVal(left + width, 'x'));
    this.chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  /** Moves the span with the pointer until the button is let go. */
  startPan(event) {
    const { from, to } = this.span;
    const start = event.clientX;
    const perPixel = (to - from) / this.chart.over.clientWidth;
    const move = ({ clientX }) => this.span.show(from - (clientX - start) * perPixel, to - (clientX - start) * perPixel);
    const stop = () => {
      removeEventListener('mousemove', move);
      removeEventListener('mouseup', stop);
    };
    addEventListener('mousemove', move);
    addEventListener('mouseup', stop);
  }

  listen() {
    this.plot.addEventListener('keydown', event => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && this.span.key(event.key)) event.preventDefault();
    });
    // Dragging selects, which uPlot does; with Shift, or the middle button, it pans, and uPlot must not see it.
    this.plot.addEventListener('mousedown', event => {
      this.plot.focus({ preventScroll: true });
      if (!event.shiftKey && event.button !== 1) return;
      event.preventDefault();
      event.stopPropagation();
      this.startPan(event);
    }, { capture: true });
    this.plot.addEventListener('wheel', event => {
      // Scrolling the page over a chart must not get stuck in it: it zooms once it was clicked, or with Ctrl.
      if (!event.ctrlKey && document.activeElement !== this.plot) return;
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        this.span.pan(event.deltaX / this.plot.clientWidth);
      } else {
        const left = event.clientX - this.chart.over.getBoundingClientRect().left;
        this.span.zoom(Math.exp(event.deltaY / 300), this.chart.posToVal(left, 'x'));
      }
    }, { passive: false });
  }
}

/** A series' figures in words, for those who don't see its chart. */
export function seriesInWords(series) {
  const parts = [`last ${quantity(series.last, series.unit)}`];
  if (series.lowest !== series.highest) parts.push(`between ${quantity(series.lowest, series.unit)} and ${quantity(series.highest, series.unit)}`);
  const { rate_per_hour: speed, since } = series.verdict;
  if (speed != null) parts.push(`${rate(speed, series.unit)} per hour`);
  if (since != null) parts.push(`since ${moment(since)}`);
  return parts.join(', ');
}
