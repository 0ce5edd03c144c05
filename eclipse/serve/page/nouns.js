// Which words of a prompt a subject stands for: the rule of the service (whole words in any case, `dog#2` for the
// second of several), so that a click on a word names exactly what the server will find.

const WORD = /[\p{L}\p{N}_][\p{L}\p{N}_-]*/gu;

/** The words of a prompt with where they stand: [{text, start, end}]. */
export function wordsOf(prompt) {
  return [...prompt.matchAll(WORD)].map((match) => ({
    text: match[0],
    start: match.index,
    end: match.index + match[0].length,
  }));
}

/** How the API calls the characters from start to end: the text, with #k where it occurs several times. */
export function nounAt(prompt, start, end) {
  const text = prompt.slice(start, end).split(/\s+/).join(" ");
  const found = occurrences(prompt, text);
  const number = found.findIndex((match) => match.start === start) + 1;
  return found.length > 1 && number > 0 ? `${text}#${number}` : text;
}

/** Where a noun as {@link nounAt} names it stands in a prompt: {start, end}, or null if it is not there. */
export function placeOf(prompt, noun) {
  const [text, number] = noun.split("#");
  const found = occurrences(prompt, text);
  return found[(Number(number) || 1) - 1] ?? null;
}

function occurrences(prompt, text) {
  const words = text.split(/\s+/).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pattern = `(?<![\\p{L}\\p{N}_-])${words.join("\\s+")}(?![\\p{L}\\p{N}_-])`;
  return [...prompt.matchAll(new RegExp(pattern, "giu"))].map((match) => ({
    start: match.index,
    end: match.index + match[0].length,
  }));
}

/**
 * The span after a click on a word: neighbours grow it ("teddy bear"), its ends shrink it, any other word starts anew.
 * `span` is {first, last} of word numbers, or null; so is the answer.
 */
export function clicked(span, word) {
  if (span && word === span.first - 1) return { first: word, last: span.last };
  if (span && word === span.last + 1) return { first: span.first, last: word };
  if (span && span.first === span.last && word === span.first) return null;
  if (span && word === span.first) return { first: word + 1, last: span.last };
  if (span && word === span.last) return { first: span.first, last: word - 1 };
  return { first: word, last: word };
}
