// Numbers and times for people. Times are Unix seconds, shown in the reader's zone.

const COUNT = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });
const RATE = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
const BYTES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** How each verdict looks, in shape and in words; the colour is the style sheet's. */
export const VERDICTS = {
  leak: { sign: '●', word: 'Leak' },
  plateau: { sign: '▬', word: 'Plateau' },
  clean: { sign: '○', word: 'Clean' },
  undecided: { sign: '◐', word: 'Undecided' },
};

/** @param {number|null} value @param {string} unit UCUM: `1` or `By` */
export function quantity(value, unit) {
  if (value == null || !Number.isFinite(value)) return '–';
  return unit === 'By' ? bytes(value) : COUNT.format(value);
}

/** @param {number|null} value */
export function bytes(value) {
  if (value == null) return '–';
  let size = Math.abs(value), step = 0;
  while (size >= 1024 && step < BYTES.length - 1) { size /= 1024; step += 1; }
  return `${value < 0 ? '−' : ''}${size.toFixed(step === 0 || size >= 100 ? 0 : 1)} ${BYTES[step]}`;
}

/** A rate with its sign and the digits that an estimate has. */
export function rate(value, unit) {
  if (value == null) return '–';
  return `${value > 0 ? '+' : ''}${unit === 'By' ? bytes(value) : RATE.format(value)}`;
}

/** @param {number|null} share 0 to 1; never rounded up to certainty */
export function percent(share) {
  if (share == null) return '–';
  const shown = Math.min(share * 100, 99.9);
  return `${shown < 99 ? Math.round(shown) : shown.toFixed(1)}%`;
}

/** A length of time in its two largest units, as the text output words it. */
export function duration(seconds) {
  if (seconds == null) return '–';
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) {
    const minutes = Math.round(seconds / 60);
    return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
  }
  if (seconds < 86400 * 730) return `${(seconds / 86400).toFixed(1)} days`;
  return `${Math.round(seconds / (86400 * 365.25))} years`;
}

/** `2026-11-23 18:14:28`, with as many decimals of a second as `decimals` says. */
export function moment(seconds, decimals = 0) {
  const rounded = Number(seconds.toFixed(decimals));
  const date = new Date(Math.floor(rounded) * 1000);
  const two = number => String(number).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const fraction = decimals > 0 ? (rounded - Math.floor(rounded)).toFixed(decimals).slice(1) : '';
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}${fraction}`;
}

/** The reader's offset from UTC at that moment: `UTC+01:00`. */
export function offset(seconds) {
  const minutes = -new Date(seconds * 1000).getTimezoneOffset();
  const size = Math.abs(minutes);
  const two = number => String(number).padStart(2, '0');
  return `UTC${minutes < 0 ? '−' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

/** A moment to the minute or second, with its offset. */
export function momentWithOffset(seconds) {
  return `${moment(seconds)} ${offset(seconds)}`;
}

/** As many decimals as moments `step` seconds apart need to differ. */
export function decimalsFor(step) {
  return step >= 1 ? 0 : Math.min(6, Math.ceil(-Math.log10(step)));
}
