// The answer: a card that is read in two seconds.

import { element, prose } from './element.mjs';
import { duration, moment, momentWithOffset, percent, quantity, rate, VERDICTS } from './format.mjs';

/** A word with its sign, coloured by its kind. */
export function badge(kind) {
  const { sign, word } = VERDICTS[kind] ?? VERDICTS.undecided;
  return element('span', { class: `badge ${kind}` }, element('span', { 'aria-hidden': 'true' }, sign), ` ${word}`);
}

/**
 * @param {HTMLElement} card
 * @param {object} facts of the page
 */
export function drawVerdict(card, facts) {
  const verdict = facts.verdict ?? { kind: 'undecided', sentence: 'Nothing was judged yet.', history: [], steps: [] };
  const unit = facts.series.find(series => series.name === verdict.series)?.unit ?? '1';
  card.classList.add(verdict.kind);
  card.append(badge(verdict.kind), element('p', { class: 'sentence' }, ...prose(verdict.sentence)));
  const figures = element('dl', { class: 'figures' });
  const figure = (term, value, more) => figures.append(element('div', {},
    element('dt', {}, term), element('dd', {}, value, more && element('span', { class: 'quiet' }, more))));

  if (verdict.since != null) {
    figure('Since', moment(verdict.since), `${duration(facts.to - verdict.since)} before the end`);
  }
  if (verdict.rate_per_hour != null) {
    const range = verdict.rate_low == null ? null
      : `95%: ${rate(verdict.rate_low, unit)} to ${rate(verdict.rate_high, unit)}`;
    figure('Rate', `${rate(verdict.rate_per_hour, unit)} per hour`, range);
  }
  const { exhausts } = verdict;
  if (exhausts) {
    const left = exhausts.at - facts.to;
    const latest = exhausts.latest == null ? 'never' : duration(Math.max(0, exhausts.latest - facts.to));
    figure(`Reaches ${exhausts.name} ${quantity(exhausts.limit, unit)}`,
      left > 0 ? `in ${duration(left)}` : 'reached',
      left > 0 ? `${moment(exhausts.at)}; 95%: in ${duration(Math.max(0, exhausts.earliest - facts.to))} to ${latest}` : null);
  }
  if (facts.leaked > 0) {
    figure('Leaked', element('a', { href: '#resources-title' }, `${quantity(facts.leaked, '1')} of ${quantity(facts.open, '1')} open`),
      `${quantity(facts.closed_total, '1')} were closed`);
  }
  if (verdict.confidence != null) figure('Confidence', percent(verdict.confidence));
  if (figures.childElementCount > 0) card.append(figures);

  const others = facts.findings.slice(1);
  if (others.length > 0) {
    card.append(element('details', {}, element('summary', {}, `${others.length} more finding${others.length > 1 ? 's' : ''}`),
      element('ul', { class: 'plain' }, ...others.map(other => element('li', {}, badge(other.kind), ' ', ...prose(other.sentence))))));
  }
  if (verdict.steps.length > 0 || verdict.history.length > 1) {
    card.append(element('details', {}, element('summary', {}, 'How it was judged'),
      element('ul', {}, ...verdict.steps.map(step => element('li', {}, ...prose(step)))),
      element('ul', { class: 'plain' }, ...verdict.history.map(change => element('li', {},
        element('span', { class: 'quiet' }, `${momentWithOffset(change.at)} `), badge(change.kind), ' ', ...prose(change.sentence))))));
  }
}
