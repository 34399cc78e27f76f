// One question to the server's public API, and its answer or its error.

import { isSafetensors, readSafetensors } from "./safetensors.js";

const CONTRACT_VERSION = 2;
// config.properties' max_request_size: what is larger the server drops without a word.
export const MAX_REQUEST_BYTES = 67108864;

// What a status means where nobody said it in words: TorchServe itself, or a proxy's page.
const STATUSES = {
  401: ["unauthorized", "The server asks for an API key."],
  403: ["unauthorized", "The server does not take this API key."],
  404: ["not_found", "The server has no such model."],
  413: ["too_large", "The file is larger than the server takes: cut the video."],
  429: ["overloaded", "Too many questions at once: try again later."],
  502: ["unreachable", "The proxy got no answer from a server: try again later."],
  503: ["overloaded", "The server cannot take the question now: try again later."],
  504: ["unreachable", "The server did not answer in time: send a shorter video, or ask for fewer classes."],
};

/** What went wrong, as the wire says it: {code, message, got, allowed}. `wantsKey` where an API key is asked for. */
export class AskError extends Error {
  constructor({ code, message, got = null, allowed = null }, { status = null } = {}) {
    super(message);
    Object.assign(this, { name: "AskError", code, got, allowed, wantsKey: status === 401 || status === 403 });
  }
}

/** Where a question goes. /predictions/MODEL would drop the options without a word. */
export function questionUrl(model, options) {
  const url = new URL(`models/${encodeURIComponent(model)}/invoke`, document.baseURI);
  url.search = new URLSearchParams(options);
  return url;
}

/**
 * The server's answer to a file: {envelope, tensors}.
 * Throws AskError, or the signal's AbortError.
 */
export async function ask(file, { model, options, key, signal }) {
  checkSize(file);
  const headers = { "content-type": "application/octet-stream", ...(key && { "x-api-key": key }) };
  let response, body;
  try {
    response = await fetch(questionUrl(model, options), { method: "POST", body: file, headers, signal });
    body = await response.arrayBuffer();
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new AskError({
      code: "unreachable",
      message: "The server does not answer. Is it up, and is the file still there?",
    });
  }
  if (!response.ok) throw refusal(response.status, body);
  return readReply(body);
}

function checkSize(file) {
  if (file.size === 0) throw new AskError({ code: "empty_body", message: "The file is empty." });
  if (file.size > MAX_REQUEST_BYTES) {
    const message = "The file is larger than the server takes, and was not sent: cut the video.";
    throw new AskError({
      code: "too_large",
      message,
      got: `${file.size} bytes`,
      allowed: `${MAX_REQUEST_BYTES} bytes`,
    });
  }
}

function readReply(body) {
  try {
    const { metadata, tensors } = isSafetensors(body) ? readSafetensors(body) : { metadata: {}, tensors: {} };
    const envelope = JSON.parse(metadata.envelope ?? new TextDecoder().decode(body));
    if (envelope.contract_version !== CONTRACT_VERSION) {
      throw new Error(`contract version ${envelope.contract_version}, where this page speaks ${CONTRACT_VERSION}`);
    }
    return { envelope, tensors };
  } catch (cause) {
    throw new AskError({
      code: "server_error",
      message: "What came is no answer of a sum3dcam server.",
      got: cause.message,
    });
  }
}

function refusal(status, body) {
  const text = new TextDecoder().decode(body);
  let said = {};
  try {
    said = JSON.parse(text) ?? {};
  } catch {
    // A proxy's page.
  }
  const error = said.error ?? said;
  // TorchServe's own errors have a number for a code.
  if (typeof error.code === "string" && typeof error.message === "string") return new AskError(error, { status });
  const [code, message] = STATUSES[status] ?? ["server_error", "The server failed."];
  return new AskError({ code, message, got: `HTTP ${status} ${said.message ?? ""}`.trim() }, { status });
}
