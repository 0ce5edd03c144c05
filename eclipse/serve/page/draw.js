// From what is asked for to pictures: streaming, several rows at once, waiting out a busy server, cancelling.

import { ApiError, call, serverSentEvents } from "./api.js";
import { byId, counted, el, show } from "./dom.js";
import { addRun, closeRun, showDone, showPartial } from "./gallery.js";
import { tell } from "./problems.js";
import { fetchInit } from "./request.js";

const PARTIALS = 3;
let current = null;

/** Give up what is being made; the service frees its slots when the connection closes. */
export const cancel = () => current?.abort();

/** Make what `plan` asks for (see `asked` of form.js), and show it as it comes. One plan at a time. */
export async function make(plan) {
  if (current) return;
  current = new AbortController();
  const run = addRun(plan);
  const begun = performance.now();
  busy(true);
  say(`Drawing ${counted(run.rows.flatMap((row) => row.shots).length, "picture")} …`);
  try {
    const answers = run.rows.map((row) => fill(row, plan.kind, current.signal));
    await Promise.all(answers).catch((error) => {
      current.abort(); // the other row would be compared with nothing
      throw error;
    });
    finish(run, begun, "Done");
  } catch (error) {
    finish(run, begun, error.name === "AbortError" ? "Cancelled" : "");
    if (error.name !== "AbortError") tell(error);
  } finally {
    current = null;
    busy(false);
  }
}

function finish(run, begun, word) {
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  const count = run.rows.flatMap((row) => row.shots).filter((shot) => shot.outcome).length;
  closeRun(run, `${summary(run)}${seconds} s`);
  say(word && `${word}: ${counted(count, "picture")} in ${seconds} s.`);
}

// Model and settings as the first manifest tells them, for the line below a run's title.
function summary(run) {
  const shot = run.rows.flatMap((row) => row.shots).find((each) => each.url);
  if (!shot) return "";
  const { model, steps, scheduler, guidance, width, height } = shot.manifest.request;
  const drawn = `${steps} steps · ${scheduler} · guidance ${guidance} · ${width}×${height} · `;
  return run.rows.length > 1 ? drawn : `${model} · ${drawn}`;
}

async function fill(row, kind, signal) {
  await waitingOut(signal, () => (kind === "blend" ? whole(row, signal) : streamed(row, signal)));
  if (row.shots.some((shot) => !shot.outcome)) {
    throw new ApiError(0, "The answer broke off before all pictures were there.");
  }
}

async function whole(row, signal) {
  const answer = await (await call(row.wish.path, { ...fetchInit(row.wish), signal })).json();
  answer.data.forEach((datum, index) => showDone(row, index, datum));
}

async function streamed(row, signal) {
  const init = fetchInit(row.wish, { stream: true, partial_images: PARTIALS });
  const response = await call(row.wish.path, { ...init, signal });
  for await (const event of serverSentEvents(response)) {
    const { index } = event;
    if (event.type.endsWith(".partial_image")) showPartial(row, index, event.b64_json);
    else showDone(row, index, event); // `completed`, or `withheld` with a reason instead of a picture
  }
}

// A 429 is no failure: the service says when it will have room, so the page waits and asks again.
async function waitingOut(signal, action) {
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (error.status !== 429) throw error;
      await countdown(Math.ceil(error.retryAfter), signal);
      say("Asking again …");
    }
  }
}

async function countdown(seconds, signal) {
  // Hidden from screen readers: the status is read once, not every second.
  const left = el("span", { "aria-hidden": "true" });
  byId("status").replaceChildren("The server is busy. It is asked again ", left);
  for (let second = seconds; second > 0; second -= 1) {
    left.textContent = `in ${second} s.`;
    await pause(1000, signal);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("Cancelled.", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
  });
}

function busy(working) {
  // Not `disabled`, which would take the keyboard's place from it.
  byId("go").setAttribute("aria-disabled", String(working));
  show(byId("cancel"), working);
  byId("form").setAttribute("aria-busy", String(working));
}

const say = (text) => byId("status").replaceChildren(text);
