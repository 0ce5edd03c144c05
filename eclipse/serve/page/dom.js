// Elements without markup: text is only ever text, so nothing that a server or a file name says can become a tag.

/** The element of this id. */
export const byId = (id) => document.getElementById(id);

/**
 * A new element. Attributes: `onclick` and the like are listeners, true is a bare attribute, and false, null or
 * undefined leave it out. Children: elements, or strings, which become text.
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Show or hide an element. */
export function show(node, shown) {
  node.hidden = !shown;
}

/** The bytes of base64 text. */
export const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

/** Copy text; false where the browser does not let the page (a plain-http page of another host). */
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** "1 picture", "2 pictures". */
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
