// Pictures of few pixels are shown with square pixels, not blurred, unless a person wants them smooth.

import { byId } from "./dom.js";

const SMALL = 128; // pixels a side, up to which single pixels are meant to be seen

/** Mark an image as having few pixels, or not, whenever it gets another picture. */
export function markPixels(image) {
  image.addEventListener("load", () => {
    image.classList.toggle("pixels", Math.max(image.naturalWidth, image.naturalHeight) <= SMALL);
  });
}

/** Listen to the switch between square and smooth pixels. */
export function startPixels() {
  byId("smooth").addEventListener("change", ({ target }) => {
    document.documentElement.classList.toggle("smooth", target.checked);
  });
}
