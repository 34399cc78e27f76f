// The form: what is asked of the server, and what the form says of itself.

import { questionUrl } from "./api.js";

const part = (id) => document.getElementById(id);
const value = (id) => part(id).value;

/** What the form holds: {model, options, key}, options by the names of the wire. */
export function question() {
  const taps = [...part("taps").querySelectorAll("input")];
  const ticked = taps.filter((tap) => tap.checked).map((tap) => tap.value);
  const best = Number(value("best"));
  const options = {
    explain: "maps",
    map_dtype: "u8",
    method: value("method"),
    target: value("named").trim() || (best === 1 ? "top" : `top-${best}`),
    box_mode: value("box_mode"),
    normalisation: value("normalisation"),
    coordinates: value("coordinates"),
    // All or none: the method's own choice, which is one layer for some.
    ...(ticked.length > 0 && ticked.length < taps.length && { taps: ticked.join() }),
    ...(Number(value("threshold")) > 0 && { threshold: value("threshold") }),
  };
  return { model: value("model"), options, key: value("key") };
}

/** The question as text: two that differ are different questions. */
export function questionText() {
  const { model, options } = question();
  return String(questionUrl(model, options));
}

/** Says what the method shows, what a box holds, what curl would ask, and whether asking would tell anything new. */
export function describeQuestion({ fileName = "clip.mp4", asked }) {
  part("method-hint").textContent = part("method").selectedOptions[0].dataset.hint;
  const threshold = Number(value("threshold"));
  const level = threshold > 0 ? `${Math.round(100 * threshold)} % of the maximum` : "each frame's own level";
  part("threshold-value").textContent = level;
  part("threshold").setAttribute("aria-valuetext", level);
  const key = value("key") ? " -H 'x-api-key: ...'" : "";
  part("curl").textContent =
    `curl -T ${quoted(fileName)} -X POST${key} ${quoted(questionText())} --output answer.safetensors`;
  part("ask").textContent = asked ? "Ask again" : "Ask";
  part("ask").classList.toggle("due", questionText() !== asked);
}

/** The text as one word of a shell. */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
