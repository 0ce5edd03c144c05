// Prompts to begin with: the mini world's own vocabulary for a mini decoder, everyday scenes for any other.

import { byId, el } from "./dom.js";

const MINI = [
  ["star and heart", "a yellow solid star left of a purple checkered heart on a grey background"],
  ["three squares", "three green checkered squares on a beige background"],
  ["an unseen pair", "a red striped star left of a blue solid heart on a white background"], // blue hearts are held out
];
const WIDE = [
  ["red bicycle", "a red bicycle leaning against a white wall, morning light"],
  ["harbour", "a watercolour of a small harbour with fishing boats"],
  ["owl", "an owl on a branch in the snow, close-up photograph"],
];
const MINI_ENDS = ["a yellow solid star on a grey background", "a purple checkered heart on a grey background"];
const WIDE_ENDS = ["a green apple on a wooden table", "a red rose on a wooden table"];

/** Buttons that write a prompt, and the interpolation's two ends filled in. */
export function startExamples(models) {
  const mini = models.some((model) => model.id.split("@")[0].endsWith("-mini"));
  const write = (prompt) => {
    byId("prompt").value = prompt;
    byId("prompt").dispatchEvent(new Event("input", { bubbles: true }));
    byId("prompt").focus();
  };
  const buttons = (mini ? MINI : WIDE).map(([name, prompt]) =>
    el("button", { type: "button", title: prompt, onclick: () => write(prompt) }, name),
  );
  byId("examples").replaceChildren(...buttons);
  [byId("from").value, byId("to").value] = mini ? MINI_ENDS : WIDE_ENDS;
}
