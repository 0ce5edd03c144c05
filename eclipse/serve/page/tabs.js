// The two tabs, by the pattern of the ARIA Authoring Practices: one tab stop, arrows move between them.

import { byId, show } from "./dom.js";

const TABS = ["draw", "blend"];
const WORDS = { draw: "Draw", blend: "Interpolate" };

let changed = () => {};

/** Listen to clicks and arrow keys; `onchange` is called when a tab was opened. */
export function startTabs({ onchange }) {
  changed = onchange;
  for (const name of TABS) {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => openTab(name));
    tab.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      const other = TABS.find((each) => each !== name);
      openTab(other);
      byId(`tab-${other}`).focus();
    });
  }
}

/** The tab that is open: "draw" or "blend". */
export const openedTab = () => TABS.find((name) => byId(`tab-${name}`).getAttribute("aria-selected") === "true");

/** Open one tab and close the other. */
export function openTab(name) {
  for (const each of TABS) {
    const tab = byId(`tab-${each}`);
    tab.setAttribute("aria-selected", String(each === name));
    tab.tabIndex = each === name ? 0 : -1;
    show(byId(`panel-${each}`), each === name);
  }
  show(byId("n-field"), name === "draw");
  byId("go").textContent = WORDS[name];
  changed();
}
