// The bearer token of a server that asks for one: kept for this tab only, never on disk.

import { byId } from "./dom.js";

const KEY = "eclipse-token";
let asking = null;

/** The token given in this tab, or null. */
export const storedToken = () => sessionStorage.getItem(KEY);

/** Ask for a token and store it. Several calls that fail together share one question; leaving it is an AbortError. */
export function askForToken(reason) {
  asking ??= ask(reason).finally(() => {
    asking = null;
  });
  return asking;
}

function ask(reason) {
  const dialog = byId("token-dialog");
  const field = byId("token");
  byId("token-reason").textContent = reason;
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve, reject) => {
    const closed = () => {
      const token = field.value.trim();
      field.value = "";
      if (dialog.returnValue !== "use" || !token) {
        reject(new DOMException("No token was given.", "AbortError"));
        return;
      }
      sessionStorage.setItem(KEY, token);
      resolve();
    };
    dialog.addEventListener("close", closed, { once: true });
  });
}
