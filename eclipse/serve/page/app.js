// The page's start: asks the service what it offers and joins the parts.

import { getJson } from "./api.js";
import { byId } from "./dom.js";
import { cancel, make } from "./draw.js";
import { startExamples } from "./examples.js";
import { asked, described, restore, startForm, updateModels } from "./form.js";
import { startGallery } from "./gallery.js";
import { startPixels } from "./pixels.js";
import { clearProblems, tell } from "./problems.js";
import { startSubjects } from "./subjects.js";
import { openTab, openedTab, startTabs } from "./tabs.js";
import { openViewer, startViewer } from "./viewer.js";

async function start() {
  startTabs({ onchange: updateModels });
  startPixels();
  startGallery({ onopen: openViewer, onreuse: reuse });
  startViewer({ onagain: reuse });
  listen();
  let limits;
  let models;
  try {
    [limits, { data: models }] = await Promise.all([getJson("v1/limits"), getJson("v1/models")]);
  } catch (error) {
    byId("go").disabled = true;
    tell(error);
    return;
  }
  startForm(limits, models);
  startExamples(models);
  startSubjects({ most: limits.max_subjects, onchange: updateModels });
  const champion = models.find((model) => model.role === "champion");
  byId("served").replaceChildren(champion ? `${champion.id.split("@")[0]} · ${described(champion)}` : "");
}

function listen() {
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  byId("form").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
  });
  byId("cancel").addEventListener("click", cancel);
}

async function submit() {
  clearProblems();
  let plan;
  try {
    plan = asked(openedTab());
  } catch (error) {
    tell(error);
    return;
  }
  await make(plan);
}

function reuse(wish, compare = false) {
  clearProblems();
  openTab(wish.path.endsWith("interpolate") ? "blend" : "draw");
  restore(wish, compare);
  byId(wish.path.endsWith("interpolate") ? "from" : "prompt").focus();
  byId("status").textContent = "The settings are in the form.";
}

start();
