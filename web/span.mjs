// The span of time that all charts show, and its buttons.

import { button, element } from './element.mjs';
import { decimalsFor, duration, moment, offset } from './format.mjs';

/** A view is never narrower than this, in seconds: times are whole microseconds. */
const NARROWEST = 20e-6;

/** The time shown. Listeners are called when it changes, at most once a frame. */
export class Span {
  /** @param {number} from @param {number} to the whole of the recording, in Unix seconds */
  constructor(from, to) {
    // A recording of one moment still needs an axis.
    this.whole = to > from ? [from, to] : [from - 1, from + 1];
    [this.from, this.to] = this.whole;
    this.listeners = [];
    this.scheduled = false;
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  isWhole() {
    return this.from === this.whole[0] && this.to === this.whole[1];
  }

  /** Shows `from` to `to`, as far as it lies within the recording. */
  show(from, to) {
    const [first, last] = this.whole;
    const width = Math.min(Math.max(to - from, NARROWEST), last - first);
    const start = Math.min(Math.max(from, first), last - width);
    [this.from, this.to] = width >= last - first ? this.whole : [start, start + width];
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      for (const listener of this.listeners) listener();
    });
  }

  reset() {
    this.show(...this.whole);
  }

  /** Shows `factor` times as much, `anchor` (a moment) staying where it is. */
  zoom(factor, anchor = (this.from + this.to) / 2) {
    this.show(anchor - (anchor - this.from) * factor, anchor + (this.to - anchor) * factor);
  }

  /** Moves by a share of the width. */
  pan(share) {
    const by = (this.to - this.from) * share;
    this.show(this.from + by, this.to + by);
  }

  /** What a key does to it; true where it does something. */
  key(name) {
    const actions = {
      ArrowLeft: () => this.pan(-0.2), ArrowRight: () => this.pan(0.2),
      ArrowUp: () => this.zoom(0.5), ArrowDown: () => this.zoom(2), '+': () => this.zoom(0.5), '-': () => this.zoom(2),
      0: () => this.reset(), Escape: () => this.reset(),
    };
    actions[name]?.();
    return name in actions;
  }
}

/** The toolbar of `span`. @param {HTMLElement} bar */
export function drawSpanTools(bar, span) {
  const shown = element('output', { class: 'quiet span-shown', 'aria-live': 'polite' });
  const all = button('Show all', 'Show the whole recording (0)', () => span.reset());
  bar.append(shown,
    button('←', 'Earlier (left arrow)', () => span.pan(-0.2)), button('→', 'Later (right arrow)', () => span.pan(0.2)),
    button('−', 'Zoom out (minus)', () => span.zoom(2)), button('+', 'Zoom in (plus)', () => span.zoom(0.5)), all);
  const update = () => {
    const decimals = decimalsFor((span.to - span.from) / 100);
    shown.textContent = span.isWhole()
      ? `all ${duration(span.to - span.from)}`
      : `${moment(span.from, decimals)} to ${moment(span.to, decimals).slice(11)} ${offset(span.from)}`;
    all.disabled = span.isWhole();
  };
  span.onChange(update);
  update();
}
