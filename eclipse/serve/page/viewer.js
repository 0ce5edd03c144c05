// One picture large, with its manifest: where it comes from, and how to get it again.

import { byId, copied, el } from "./dom.js";
import { shots } from "./gallery.js";
import { markPixels } from "./pixels.js";
import { curlOf, single } from "./request.js";
import { storedToken } from "./token.js";

let shown = null;

/** Listen; `onagain(wish)` puts the settings of the picture shown back into the form. */
export function startViewer({ onagain }) {
  markPixels(byId("viewer-image"));
  byId("viewer-close").addEventListener("click", () => byId("viewer").close());
  byId("viewer-back").addEventListener("click", () => move(-1));
  byId("viewer-next").addEventListener("click", () => move(1));
  byId("viewer-again").addEventListener("click", () => {
    byId("viewer").close();
    onagain(wishOf(shown));
  });
  byId("viewer-curl").addEventListener("click", () => {
    copy(curlOf(wishOf(shown), { token: Boolean(storedToken()) }), "The command");
  });
  byId("viewer-copy").addEventListener("click", () => copy(JSON.stringify(shown.manifest, null, 2), "The manifest"));
  byId("viewer").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });
  byId("viewer").addEventListener("click", (event) => {
    // The dialog itself is only hit outside of what it holds: on the backdrop.
    if (event.target === byId("viewer")) byId("viewer").close();
  });
}

/** Open a finished picture. */
export function openViewer(shot) {
  shown = shot;
  draw();
  byId("viewer").showModal();
}

// A frame of an interpolation has no request of its own: its wish is the whole row's.
const wishOf = (shot) => (shot.at === null ? single(shot.row.wish, shot.seed) : shot.row.wish);

function move(step) {
  const all = shots();
  const next = all[all.indexOf(shown) + step];
  if (!next) return;
  shown = next;
  draw();
}

function draw() {
  const all = shots();
  const place = all.indexOf(shown);
  byId("viewer-image").src = shown.url;
  byId("viewer-image").alt = shown.row.title;
  byId("viewer-title").textContent = shown.row.title;
  byId("viewer-note").textContent = "";
  byId("viewer-back").disabled = place <= 0;
  byId("viewer-next").disabled = place >= all.length - 1;
  const link = byId("viewer-download");
  link.href = shown.url;
  link.download = `${slug(shown.row.title)}-${shown.seed}${shown.at === null ? "" : `-${shown.at.toFixed(2)}`}.png`;
  byId("manifest").replaceChildren(...sections(shown.manifest));
}

async function copy(text, what) {
  const done = await copied(text);
  byId("viewer-note").textContent = done ? `${what} is in the clipboard.` : "The browser does not let this page copy.";
}

const isPart = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const words = (name) => name.replaceAll("_", " ");

// Whatever a manifest holds is shown, so that a field that a later version adds is not lost here.
function sections(manifest) {
  const parts = Object.entries(manifest).filter(([, value]) => isPart(value));
  const rest = Object.fromEntries(Object.entries(manifest).filter(([, value]) => !isPart(value)));
  return [...parts, ["manifest", rest]].flatMap(([name, value]) => {
    const list = entries(value);
    return list.length ? [el("h3", {}, words(name)), el("dl", {}, ...list)] : [];
  });
}

function entries(part, before = "") {
  return Object.entries(part).flatMap(([name, value]) => {
    if (isPart(value)) return entries(value, `${before}${words(name)}, `);
    if (Array.isArray(value) && value.some(isPart)) {
      return value.flatMap((each, i) => entries(each, `${before}${words(name)} ${i + 1}, `));
    }
    if (value === null || value === "" || (Array.isArray(value) && !value.length)) return [];
    const text = Array.isArray(value) ? JSON.stringify(value) : String(value);
    const hash = /^[0-9a-f]{32,}$/.test(text);
    return [el("dt", {}, before + words(name)), el("dd", { class: hash ? "hash" : "" }, text)];
  });
}

// A file name of words and hyphens, whatever a prompt holds.
function slug(text) {
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ["picture"];
  return words.join("-").slice(0, 48);
}
