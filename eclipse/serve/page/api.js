// Calls to the service: its errors as ApiError, its event streams as an async generator, its 401 as a question.

import { askForToken, storedToken } from "./token.js";

/** An answer that is no success; `param` names the field at fault, `retryAfter` is in seconds. */
export class ApiError extends Error {
  constructor(status, message, { param = null, code = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, param, code, retryAfter });
  }
}

/** A successful response. On a 401 the person is asked for a token, and the call is made again with it. */
export async function call(path, { signal, ...init } = {}) {
  for (;;) {
    const response = await send(path, init, signal);
    if (response.ok) return response;
    const error = await failure(response);
    if (error.status !== 401) throw error;
    await askForToken(error.message);
  }
}

/** The JSON of a GET. */
export const getJson = async (path) => (await call(path)).json();

async function send(path, init, signal) {
  const token = storedToken();
  const headers = { ...init.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  try {
    return await fetch(path, { ...init, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer; is it still running?");
  }
}

async function failure(response) {
  let body = null;
  try {
    body = (await response.json()).error;
  } catch {
    // Something between here and the service answered; its status is all there is to tell.
  }
  const retryAfter = response.status === 429 ? Number(response.headers.get("Retry-After")) || 1 : null;
  const message = body?.message ?? `The server answered ${response.status} ${response.statusText}`.trim();
  return new ApiError(response.status, message, { param: body?.param, code: body?.code, retryAfter });
}

/** The JSON of each server-sent event; an event that tells an error throws it. */
export async function* serverSentEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const data = dataOf(block);
      if (data && data !== "[DONE]") yield checked(JSON.parse(data));
    }
  }
}

function dataOf(block) {
  const lines = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(5).trimStart()).join("\n");
}

function checked(event) {
  if (!event.error) return event;
  const { message, param, code } = event.error;
  throw new ApiError(500, message ?? "The server gave up.", { param, code });
}
