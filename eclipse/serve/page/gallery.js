// The pictures of this session, newest run first, kept in memory. A run has a row for each model that drew it.

import { byId, bytesOf, el, show } from "./dom.js";
import { markPixels } from "./pixels.js";
import { Player } from "./player.js";

let runs = [];
let opened = () => {};
let reused = () => {};

/** Listen; `onopen(shot)` is called for a picture that is clicked, `onreuse(wish, compare)` to put settings back. */
export function startGallery({ onopen, onreuse }) {
  opened = onopen;
  reused = onreuse;
  byId("clear").addEventListener("click", () => {
    runs.filter((run) => run.over).forEach(drop);
    byId("gallery").focus();
  });
}

/** All finished pictures in the order shown. */
export const shots = () => runs.flatMap((run) => run.rows.flatMap((row) => row.shots.filter((shot) => shot.url)));

/** A new run at the top, with an empty place for every picture; see {@link asked} for `plan`. */
export function addRun(plan) {
  const meta = el("p", { class: "meta" }, "drawing …");
  const rows = plan.rows.map((row) => newRow(plan, row));
  const player = plan.kind === "blend" ? new Player(rows[0].shots.length, opened) : null;
  const run = { rows, meta, player, over: false };
  run.actions = runActions(run, plan);
  const few = rows.every((row) => row.shots.length <= 2);
  run.node = el(
    "article",
    { class: `run ${plan.kind}` },
    el("header", {}, el("h3", {}, plan.title || "No prompt"), meta, run.actions),
    player?.node,
    el("div", { class: few ? "rows beside" : "rows" }, ...rows.map((row) => row.node)),
  );
  runs.unshift(run);
  byId("runs").prepend(run.node);
  redraw();
  run.node.scrollIntoView({ block: "nearest" });
  return run;
}

/** Take a run out of the gallery and of memory. */
export function drop(run) {
  run.player?.stop();
  for (const shot of run.rows.flatMap((row) => row.shots)) if (shot.url) URL.revokeObjectURL(shot.url);
  runs = runs.filter((other) => other !== run);
  run.node.remove();
  redraw();
}

/** An unfinished picture of a row. */
export function showPartial(row, index, base64) {
  const shot = row.shots[index];
  if (!shot || shot.url) return;
  shot.image.src = `data:image/png;base64,${base64}`;
  shot.node.dataset.state = "partial";
}

/** A finished picture of a row: `datum` as the API gives it. */
export function showDone(row, index, datum) {
  const shot = row.shots[index];
  if (!shot) return;
  Object.assign(shot, { seed: datum.seed ?? shot.seed, at: datum.at ?? null, manifest: datum.manifest });
  shot.outcome = datum.outcome ?? "ok";
  name(shot);
  if (!datum.b64_json || shot.outcome !== "ok") {
    refuse(shot, datum);
    return;
  }
  shot.url = URL.createObjectURL(new Blob([bytesOf(datum.b64_json)], { type: "image/png" }));
  shot.image.src = shot.url;
  shot.node.dataset.state = "done";
  shot.button.disabled = false;
}

/** What a run cost and who drew it, when it is over; places without a picture go. */
export function closeRun(run, note) {
  for (const row of run.rows) {
    for (const shot of row.shots.filter((shot) => !shot.outcome)) shot.node.remove();
    row.shots = row.shots.filter((shot) => shot.outcome);
  }
  if (!run.rows.some((row) => row.shots.length)) {
    drop(run);
    return;
  }
  run.over = true;
  show(run.actions, true);
  run.meta.textContent = note;
  run.player?.ready(run.rows[0].shots);
}

function newRow(plan, { label, seeds, wish }) {
  const row = { wish, label, title: plan.title };
  row.shots = seeds.map((seed) => newShot(row, seed));
  const grid = el("div", { class: "grid" }, ...row.shots.map((shot) => shot.node));
  row.node = el("div", { class: "row" }, label ? el("h4", {}, label) : null, grid);
  return row;
}

function newShot(row, seed) {
  const image = el("img", { alt: row.title });
  markPixels(image);
  const shot = { row, seed, image, url: null, at: null, outcome: null };
  shot.button = el("button", { type: "button", class: "picture", disabled: true, onclick: () => opened(shot) }, image);
  shot.label = el("figcaption");
  name(shot);
  shot.node = el("figure", { class: "tile", "data-state": "waiting" }, shot.button, shot.label);
  return shot;
}

function name(shot) {
  const text = shot.at === null ? `seed ${shot.seed}` : `at ${shot.at.toFixed(2)}`;
  shot.label.textContent = text;
  shot.button.setAttribute("aria-label", `Open the picture, ${text}`);
}

function refuse(shot, datum) {
  const words = { blocked: "Blocked by the safety checker", degenerate: "The decoder drew nothing usable" };
  shot.node.dataset.state = "refused";
  const parts = [words[shot.outcome] ?? shot.outcome, datum.reason];
  shot.button.replaceChildren(el("span", {}, parts.filter(Boolean).join(": ")));
}

function runActions(run, plan) {
  const again = () => reused(plan.rows[0].wish, plan.rows.length > 1);
  return el(
    "div",
    { class: "run-actions", hidden: true },
    el("button", { type: "button", class: "quiet", onclick: again }, "Use again"),
    el("button", { type: "button", class: "quiet", onclick: () => drop(run) }, "Remove"),
  );
}

function redraw() {
  show(byId("empty"), !runs.length);
  show(byId("clear"), runs.length > 0);
}
