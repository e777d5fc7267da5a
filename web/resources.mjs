// The table of what is still open.

import { button, element } from './element.mjs';
import { bytes, duration, percent, quantity } from './format.mjs';

/** Rows that are put into the page at a time: a browser lays out some hundreds at once, and thousands slowly. */
const ROWS_AT_A_TIME = 200;

const total = row => (row.bytes_sent == null && row.bytes_received == null ? null : (row.bytes_sent ?? 0) + (row.bytes_received ?? 0));

/** An age is a lower bound where the resource was there before the recording. */
const ageInWords = row => `${row.opened_after == null && !row.opened_exact ? '≥ ' : ''}${duration(row.age_seconds)}`;

/**
 * The columns: title, what it is sorted by, what it shows; `number` ones are set right and sorted downwards first.
 * `span` is said of those that only a target of several processes has.
 */
const COLUMNS = [
  { title: 'Kind', key: row => row.kind },
  { title: 'PID', key: row => row.holders[0]?.pid, number: true, several: true },
  { title: 'FD', key: row => row.fd, text: row => (row.fd == null ? '–' : `${row.fd}${row.access ?? ''}`), number: true },
  { title: 'Local', key: row => row.local ?? row.name ?? row.class, address: true },
  { title: 'Remote', key: row => row.remote, address: true },
  { title: 'State', key: row => (row.closed == null ? row.state : 'closed') },
  { title: 'Age', key: row => row.age_seconds, text: ageInWords, number: true },
  { title: 'Silent', key: row => row.silent_seconds, text: row => duration(row.silent_seconds), number: true },
  {
    title: 'Bytes', key: total, text: row => bytes(total(row)), number: true,
    hint: row => (total(row) == null ? null : `${quantity(row.bytes_sent, '1')} sent, ${quantity(row.bytes_received, '1')} received`),
  },
  {
    title: 'Leaked', key: row => row.leak_probability ?? (row.leaked ? 1 : 0), number: true,
    text: row => (row.leaked ? `● leaked ${row.leak_probability == null ? '' : percent(row.leak_probability)}` : ''),
  },
];

/** Compares as people do: numbers by size, texts by their numbers too, what is unknown last. */
const collator = new Intl.Collator('en', { numeric: true });
function compare(a, b, down) {
  if (a == null || b == null) return (a == null) - (b == null);
  const order = typeof a === 'number' ? a - b : collator.compare(a, b);
  return down ? -order : order;
}

export class Resources {
  /**
   * @param {HTMLElement} box @param {HTMLElement} tools
   * @param {object[]} rows as `resources` of the JSON
   */
  constructor(box, tools, rows) {
    const severalProcesses = new Set(rows.flatMap(row => row.holders.map(holder => holder.pid))).size > 1;
    this.columns = COLUMNS.filter(column => severalProcesses || !column.several);
    this.rows = rows.map(row => ({ row, text: this.textOf(row) }));
    this.sorted = { title: 'Leaked', down: true };
    // Those of the same standing: the oldest first.
    this.rows.sort((a, b) => compare(a.row.age_seconds, b.row.age_seconds, true));
    this.drawTools(tools);
    this.body = element('tbody');
    this.heads = this.columns.map(column => element('th', { scope: 'col', class: column.number ? 'number' : null },
      element('button', { type: 'button', onclick: () => this.sortBy(column) }, column.title)));
    this.more = element('p', { class: 'more' });
    box.append(element('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-labelledby': 'resources-title' },
      element('table', {}, element('caption', { class: 'unseen' }, 'What is still open'), element('thead', {}, element('tr', {}, ...this.heads)), this.body)), this.more);
    this.sort();
  }

  textOf(row) {
    return [row.kind, row.fd, row.name, row.local, row.remote, row.state, row.leaked ? 'leaked' : '', row.inode,
      ...row.holders.map(holder => holder.pid)].filter(part => part != null).join(' ').toLowerCase();
  }

  drawTools(tools) {
    this.filter = element('input', {
      type: 'search', placeholder: 'Filter', 'aria-label': 'Filter by any text', oninput: () => this.select(),
    });
    this.leakedOnly = element('input', { type: 'checkbox', onchange: () => this.select() });
    this.count = element('output', { class: 'quiet', 'aria-live': 'polite' });
    tools.append(this.count, element('label', {}, this.leakedOnly, ' leaked only'), this.filter);
  }

  sortBy(column) {
    const same = this.sorted.title === column.title;
    this.sorted = { title: column.title, down: same ? !this.sorted.down : Boolean(column.number) };
    this.sort();
  }

  sort() {
    const { title, down } = this.sorted;
    const column = this.columns.find(column => column.title === title);
    this.rows.sort((a, b) => compare(column.key(a.row), column.key(b.row), down));
    this.columns.forEach((column, index) => {
      const direction = column.title !== title ? null : down ? 'descending' : 'ascending';
      if (direction) this.heads[index].setAttribute('aria-sort', direction);
      else this.heads[index].removeAttribute('aria-sort');
    });
    this.select();
  }

  /** Shows the rows that pass the filter: each of its words occurs somewhere. */
  select() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.selected = this.rows.filter(({ row, text }) => (row.leaked || !this.leakedOnly.checked) && words.every(word => text.includes(word)));
    const all = quantity(this.rows.length, '1');
    this.count.textContent = this.selected.length === this.rows.length ? `${all} rows` : `${quantity(this.selected.length, '1')} of ${all} rows`;
    this.body.replaceChildren();
    this.showMore();
  }

  showMore() {
    const shown = this.body.childElementCount;
    const next = this.selected.slice(shown, shown + ROWS_AT_A_TIME);
    this.body.append(...next.map(({ row }) => this.drawRow(row)));
    const left = this.selected.length - shown - next.length;
    this.more.replaceChildren(...(left > 0
      ? [button(`Show ${Math.min(left, ROWS_AT_A_TIME)} more`, `Show more of ${left} further rows`, () => this.showMore())]
      : []));
    if (this.selected.length === 0) this.more.append(this.rows.length === 0 ? 'Nothing was open at the end.' : 'No row passes the filter.');
  }

  drawRow(row) {
    const cells = this.columns.map(column => {
      const text = column.text ? column.text(row) : column.key(row) ?? '–';
      const kind = column.number ? 'number' : column.address ? 'address' : null;
      return element('td', { class: kind, title: column.hint?.(row) ?? (column.address ? text : null) }, text);
    });
    return element('tr', { class: row.leaked ? 'leaked' : null, 'data-id': row.id }, ...cells);
  }
}
