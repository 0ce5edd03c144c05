// The subject pictures and the edge map: taken from a button, a drop or the clipboard; a click on a word of the prompt
// says which one a subject stands for.

import { byId, counted, el, show } from "./dom.js";
import { clicked, nounAt, placeOf, wordsOf } from "./nouns.js";

let subjects = [];
let edges = null;
let most = 0;
let changed = () => {};

/** [{file, noun}] as they stand; a noun is "" until a word is chosen. */
export const subjectsNow = () => subjects.map(({ file, noun }) => ({ file, noun }));

/** The edge map's file, or null. */
export const edgesNow = () => edges;

/** Show the fields where a prior takes subjects, and listen. `onchange` is called whenever either changes. */
export function startSubjects(options) {
  changed = options.onchange;
  most = options.most;
  show(byId("subjects-field"), most > 0);
  show(byId("edges-field"), most > 0);
  if (!most) return;
  byId("add-subject").addEventListener("click", () => byId("subject-file").click());
  byId("subject-file").addEventListener("change", ({ target }) => {
    addSubjects([...target.files]);
    target.value = "";
  });
  byId("add-edges").addEventListener("click", () => byId("edges").click());
  byId("edges").addEventListener("change", ({ target }) => {
    setEdges(target.files[0] ?? null);
    target.value = "";
  });
  byId("drop-edges").addEventListener("click", () => {
    setEdges(null);
    byId("add-edges").focus();
  });
  byId("prompt").addEventListener("input", drawList);
  listenForDrops();
}

/** Replace all subjects and edges, as when a picture's settings come back. */
export function setSubjects(list, edgeFile) {
  subjects.forEach((subject) => URL.revokeObjectURL(subject.url));
  subjects = list.map(({ file, noun }) => ({ file, noun, url: URL.createObjectURL(file) }));
  setEdges(edgeFile);
  drawList();
}

function listenForDrops() {
  const drop = byId("drop");
  const files = (transfer) => [...(transfer?.files ?? [])].filter((file) => file.type.startsWith("image/"));
  // Everywhere, so that a picture dropped beside the box does not take the browser away from the page.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.toggle("over", drop.contains(event.target));
  });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (byId("panel-draw").contains(event.target)) addSubjects(files(event.dataTransfer));
  });
  document.addEventListener("paste", (event) => {
    const pasted = files(event.clipboardData);
    if (!pasted.length || byId("panel-draw").hidden) return;
    event.preventDefault();
    addSubjects(pasted);
  });
}

function addSubjects(files) {
  const prompt = promptText();
  for (const file of files.slice(0, Math.max(0, most - subjects.length))) {
    subjects.push({ file, noun: guess(prompt, file.name), url: URL.createObjectURL(file) });
  }
  drawList();
}

// Composed, as the service will read it: "é" as one letter belongs to its word, as two it would not.
const promptText = () => byId("prompt").value.normalize("NFC");

/** "star.png" most likely stands for the word "star", where the prompt has it and no other subject took it. */
function guess(prompt, name) {
  const stem = name.replace(/\.[^.]*$/, "");
  const place = stem && placeOf(prompt, stem);
  const noun = place ? nounAt(prompt, place.start, place.end) : "";
  return subjects.some((subject) => subject.noun === noun) ? "" : noun;
}

function setEdges(file) {
  const thumb = byId("edges-thumb");
  if (thumb.src) URL.revokeObjectURL(thumb.src);
  edges = file;
  if (file) thumb.src = URL.createObjectURL(file);
  else thumb.removeAttribute("src");
  thumb.alt = file ? file.name : "";
  show(thumb, Boolean(file));
  show(byId("drop-edges"), Boolean(file));
  byId("add-edges").textContent = file ? "Change" : "Choose a picture";
  changed();
}

function drawList() {
  const prompt = promptText();
  const words = wordsOf(prompt);
  for (const subject of subjects) if (subject.noun && !placeOf(prompt, subject.noun)) subject.noun = "";
  byId("subjects").replaceChildren(...subjects.map((subject) => subjectItem(subject, prompt, words)));
  show(byId("drop"), subjects.length < most);
  changed();
}

function subjectItem(subject, prompt, words) {
  const span = spanOf(subject, prompt, words);
  const text = span ? prompt.slice(words[span.first].start, words[span.last].end) : "";
  const remove = el("button", { type: "button", class: "quiet" }, "Remove");
  remove.setAttribute("aria-label", `Remove ${subject.file.name}`);
  remove.addEventListener("click", () => {
    URL.revokeObjectURL(subject.url);
    subjects = subjects.filter((other) => other !== subject);
    drawList();
    byId("add-subject").focus();
  });
  const buttons = words.flatMap((word, number) => [
    wordButton(subject, { prompt, words, span, word, number }),
    " ",
  ]);
  const told = span ? `is “${text}”` : words.length ? "is which word?" : "needs a prompt first";
  return el(
    "li",
    {},
    el("img", { class: "thumb", src: subject.url, alt: "", width: 40, height: 40 }),
    el("p", { class: span ? "" : "open" }, `${subject.file.name} `, el("strong", {}, told)),
    remove,
    el("div", { class: "words", role: "group", "aria-label": `The word for ${subject.file.name}` }, ...buttons),
  );
}

function spanOf(subject, prompt, words) {
  const place = subject.noun && placeOf(prompt, subject.noun);
  if (!place) return null;
  const first = words.findIndex((word) => word.start === place.start);
  const last = words.findIndex((word) => word.end === place.end);
  return first < 0 || last < 0 ? null : { first, last };
}

function wordButton(subject, { prompt, words, span, word, number }) {
  const pressed = Boolean(span && number >= span.first && number <= span.last);
  const choose = () => {
    const next = clicked(span, number);
    subject.noun = next ? nounAt(prompt, words[next.first].start, words[next.last].end) : "";
    const row = subjects.indexOf(subject);
    drawList();
    // The list was made anew; the keyboard stays where it was.
    byId("subjects").children[row].querySelectorAll(".words button")[number].focus();
  };
  return el("button", { type: "button", "aria-pressed": String(pressed), onclick: choose }, word.text);
}

/** What the fields hold, in words, for a note beside the model. */
export function placed() {
  const parts = [subjects.length && counted(subjects.length, "subject"), edges && "an edge map"];
  return parts.filter(Boolean).join(" and ");
}
