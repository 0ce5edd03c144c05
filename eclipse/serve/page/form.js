// The form: choices and bounds as the service tells them, what is asked for, and settings put back.

import { byId, el, show } from "./dom.js";
import { badNumber, wordMissing } from "./problems.js";
import { edgesNow, placed, setSubjects, subjectsNow } from "./subjects.js";
import { openedTab } from "./tabs.js";

const DRAW = ["prompt", "n"];
const BLEND = ["from", "to", "frames", "mode"];
const SHARED = ["seed", "model", "steps", "guidance", "scheduler", "size", "negative_prompt"];
const MOST_PLACES = 100;
let models = [];

/** Fill the choices from `GET /v1/limits` and `GET /v1/models`. */
export function startForm(limits, list) {
  models = list;
  bound("n", { min: 1, max: limits.max_images, value: Math.min(4, limits.max_images) });
  bound("frames", { min: 2, max: limits.max_images, value: Math.min(7, limits.max_images) });
  bound("seed", { min: 0, max: limits.max_seed });
  bound("steps", { min: 1, max: limits.max_steps, value: limits.steps });
  bound("guidance", { min: 0, max: limits.max_guidance, value: limits.guidance });
  fillSelect("size", limits.sizes, limits.sizes[0]);
  fillSelect("scheduler", limits.schedulers, limits.scheduler);
  const automatic = el("option", { value: "" }, models.length > 1 ? "The champion that fits" : "The champion");
  const named = models.map((model) => el("option", { value: model.id }, `${model.variant}, ${described(model)}`));
  byId("model").replaceChildren(automatic, ...named);
  byId("dice").addEventListener("click", () => {
    byId("seed").value = randomSeed();
    byId("seed").dispatchEvent(new Event("input", { bubbles: true }));
  });
  byId("compare").addEventListener("change", updateModels);
  updateModels();
}

/** A model in words: "champion, version 3". */
export const described = (model) => model.role + (model.version ? `, version ${model.version}` : "");

/** Offer the comparison where the variant in need has a candidate; a comparison chooses its models itself. */
export function updateModels() {
  show(byId("compare-field"), Boolean(comparable()));
  byId("model").disabled = comparing();
  byId("model").title = placed() ? `For ${placed()}, a λ-ECLIPSE prior is taken.` : "";
}

/** What the form asks for: {title, rows: [{label, seeds, wish}]}; a seed left open is drawn here, so it is known. */
export function asked(kind) {
  const fields = kind === "blend" ? blendFields() : drawFields();
  fields.seed ??= randomSeed();
  if (kind === "blend") {
    const wish = { path: "v1/interpolate", fields, subjects: [], edges: null };
    const seeds = places(fields.frames).map(() => fields.seed);
    return { kind, title: `${fields.from} → ${fields.to}`, rows: [{ label: "", seeds, wish }] };
  }
  const unnamed = subjectsNow().find(({ noun }) => !noun);
  if (unnamed) throw wordMissing(unnamed.file);
  const path = pictures() ? "v1/images/edits" : "v1/images/generations";
  const wish = { path, fields, subjects: subjectsNow(), edges: edgesNow() };
  const seeds = places(fields.n).map((i) => fields.seed + i);
  if (!comparing()) return { kind, title: fields.prompt, rows: [{ label: "", seeds, wish }] };
  const rows = comparable().map((model) => ({
    label: described(model),
    seeds,
    wish: { ...wish, fields: { ...fields, model: model.id } },
  }));
  return { kind, title: fields.prompt, rows };
}

/** Put the settings of a wish back into the form, or of a comparison's first. */
export function restore(wish, compare) {
  const blend = wish.path.endsWith("interpolate");
  const { fields } = wish;
  for (const name of [...(blend ? BLEND : DRAW), ...SHARED]) byId(name).value = fields[name] ?? "";
  if (!blend) setSubjects(wish.subjects, wish.edges);
  byId("compare").checked = compare;
  if (compare) byId("model").value = "";
  updateModels();
}

function drawFields() {
  return { prompt: byId("prompt").value, n: number("n") ?? 1, ...shared() };
}

function blendFields() {
  const [from, to, mode] = ["from", "to", "mode"].map((name) => byId(name).value);
  return { from, to, frames: number("frames") ?? 5, mode, ...shared() };
}

function shared() {
  const text = (name) => byId(name).value || undefined;
  return {
    seed: number("seed"),
    model: text("model"),
    steps: number("steps"),
    guidance: number("guidance"),
    scheduler: text("scheduler"),
    size: text("size"),
    negative_prompt: text("negative_prompt"),
  };
}

// An empty field is left to a default; its bounds are the service's to judge, so that there is one judge.
function number(name) {
  const field = byId(name);
  if (field.validity.badInput) throw badNumber(name);
  return field.value === "" ? undefined : Number(field.value);
}

const pictures = () => subjectsNow().length > 0 || edgesNow() !== null;
const comparing = () => byId("compare").checked && Boolean(comparable());
// Places to show pictures at; a wrong count is the service's to refuse, and must not fill the page before it does.
const places = (count) => Array.from({ length: Math.min(count, MOST_PLACES) }, (_, i) => i);

// Champion and candidate of the variant that the form's fields need, or null where there is nothing to compare.
function comparable() {
  if (openedTab() !== "draw") return null;
  const variant = pictures() ? "lambda-eclipse" : "eclipse";
  const champion = models.find((model) => model.variant === variant && model.role === "champion");
  const candidate = champion && models.find((model) => model.id === `${champion.id}@candidate`);
  return champion && candidate ? [champion, candidate] : null;
}

const bound = (name, bounds) => Object.assign(byId(name), bounds);

function fillSelect(name, values, chosen) {
  byId(name).replaceChildren(...values.map((value) => el("option", { selected: value === chosen }, value)));
}

const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
