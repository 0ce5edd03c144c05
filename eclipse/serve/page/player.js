// The frames of an interpolation as one picture: a slider to scrub, a button to play there and back.

import { el } from "./dom.js";
import { markPixels } from "./pixels.js";

const MILLISECONDS = 180;

/** A player of `count` frames that are still to come, see {@link Player.ready}; `onopen(shot)` is called on a click. */
export class Player {
  #shots = [];
  #timer = null;
  #step = 1;
  #image = el("img", { alt: "" });
  #play = el("button", { type: "button", disabled: true }, "Play");
  #slider;
  #where = el("output");

  constructor(count, onopen) {
    const open = () => this.#shot && onopen(this.#shot);
    const picture = el("button", { type: "button", class: "picture", onclick: open }, this.#image);
    picture.setAttribute("aria-label", "Open this frame");
    this.#slider = el("input", { type: "range", min: 0, max: count - 1, value: 0, step: 1 });
    this.#slider.setAttribute("aria-label", "Between the two prompts");
    markPixels(this.#image);
    this.#slider.addEventListener("input", () => {
      this.stop();
      this.#draw();
    });
    this.#play.addEventListener("click", () => (this.#timer ? this.stop() : this.#start()));
    const bar = el("div", { class: "player-bar" }, this.#play, this.#slider, this.#where);
    this.node = el("div", { class: "player" }, picture, bar);
  }

  /** Take the finished frames. */
  ready(shots) {
    this.#shots = shots;
    this.#slider.max = shots.length - 1;
    this.#play.disabled = shots.length < 2;
    this.#draw();
  }

  /** Stand still. */
  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#play.textContent = "Play";
  }

  get #shot() {
    return this.#shots[this.#slider.value];
  }

  #start() {
    this.#timer = setInterval(() => this.#advance(), MILLISECONDS);
    this.#play.textContent = "Pause";
  }

  #advance() {
    const now = Number(this.#slider.value);
    if (now >= this.#shots.length - 1) this.#step = -1;
    if (now <= 0) this.#step = 1;
    this.#slider.value = now + this.#step;
    this.#draw();
  }

  #draw() {
    const shot = this.#shot;
    if (!shot?.url) return;
    this.#image.src = shot.url;
    this.#image.alt = shot.row.title;
    this.#where.textContent = shot.at.toFixed(2);
    this.#slider.setAttribute("aria-valuetext", this.#where.textContent);
  }
}
