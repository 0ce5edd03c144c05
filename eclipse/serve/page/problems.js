// What went wrong, in the API's own words, at the field that it is about.

import { ApiError } from "./api.js";
import { byId, el } from "./dom.js";

// Fields of the API whose control has another name here.
const CONTROLS = {
  image: "subjects-field",
  images: "subjects-field",
  noun: "subjects-field",
  nouns: "subjects-field",
  subjects: "subjects-field",
  edges: "edges-field",
};

/** The problem of a number field that holds something else. */
export const badNumber = (name) => new ApiError(400, "This is not a number.", { param: name });

/** The problem of a subject whose word nobody chose. */
export const wordMissing = (file) =>
  new ApiError(400, `Click the word of the prompt that ${file.name} stands for.`, { param: "noun" });

/** Take all problems away. */
export function clearProblems() {
  document.querySelectorAll(".field .problem").forEach((note) => note.remove());
  document.querySelectorAll("[aria-invalid]").forEach((control) => {
    control.removeAttribute("aria-invalid");
    control.removeAttribute("aria-describedby");
  });
  byId("alert").textContent = "";
}

/** Tell an error at its field and go there; without a field of its own, beside the button. */
export function tell(error) {
  const control = controlOf(error.param);
  if (!control) {
    byId("alert").textContent = error.message;
    return;
  }
  const id = `${control.id}-problem`;
  const note = el("p", { id, class: "problem", role: "alert" }, error.message.replace(`${error.param}: `, ""));
  if (control.matches(".field")) control.append(note);
  else (control.closest(".joined") ?? control).after(note);
  control.setAttribute("aria-invalid", "true");
  control.setAttribute("aria-describedby", id);
  const drawer = control.closest("details");
  if (drawer) drawer.open = true;
  const target = control.matches("input, textarea, select") ? control : control.querySelector("button");
  target.focus();
  target.scrollIntoView({ block: "nearest" });
}

// "noun[]", "subjects[0].noun" and "subjects.0.noun" are all about the subjects.
function controlOf(param) {
  if (!param) return null;
  const root = param.split(/[.[]/)[0];
  const control = byId(CONTROLS[root] ?? root);
  return control?.closest(".field") && !control.closest("[hidden]") ? control : null;
}
