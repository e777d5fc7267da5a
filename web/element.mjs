// Builds the page's elements. Texts become text nodes, never markup: they were chosen by the processes watched.

/**
 * @param {string} tag
 * @param {Object<string, any>} attributes `on...` are listeners; `true` is an attribute without a value, and `false`,
 *   `null` and `undefined` leave it out
 * @param {...(Node|string|number|null|undefined)} children
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, String(value));
  }
  node.append(...children.filter(child => child != null && child !== '').map(child => (child instanceof Node ? child : String(child))));
  return node;
}

/** A sentence; what stands between two backticks is code. */
export function prose(text) {
  const parts = text.split('`');
  // An odd number of backticks are no pairs.
  if (parts.length % 2 === 0) return [text];
  return parts.map((part, index) => (index % 2 === 1 ? element('code', {}, part) : part));
}

/** A button with a label for those who don't see its sign. */
export function button(sign, label, onclick) {
  return element('button', { type: 'button', title: label, 'aria-label': label, onclick }, sign);
}
