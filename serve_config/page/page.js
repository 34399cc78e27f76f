// The page: a file, a question, an answer. It asks the same public API as every client.

import { ask, MAX_REQUEST_BYTES } from "./api.js";
import { heatColours } from "./palettes.js";
import { describeQuestion, question, questionText } from "./question.js";
import {
  percent,
  plural,
  showClips,
  showError,
  showExplanations,
  showLabels,
  showTaps,
  size,
  updateExplanations,
} from "./results.js";
import { Stage } from "./stage.js";

const part = (id) => document.getElementById(id);
const stage = new Stage(part("stage"));
const calm = matchMedia("(prefers-reduced-motion: reduce)");

let file = null;
let loaded = null; // the promise that the stage holds the file
let answer = null; // {envelope, maps} of what is on screen
let asked = null; // the text of the question that it answers
let inFlight = null; // AbortController of the question on its way

// The question

function describe() {
  describeQuestion({ fileName: file?.name, asked });
  part("ask").disabled = file === null;
}

async function askServer() {
  inFlight?.abort();
  const own = (inFlight = new AbortController());
  const { model, options, key } = question();
  const text = questionText();
  const began = performance.now();
  part("error").replaceChildren();
  part("status").textContent = `Asking ${model} about ${file.name} …`;
  part("cancel").hidden = false;
  try {
    const { envelope, tensors } = await ask(file, { model, options, key, signal: own.signal });
    await loaded;
    if (inFlight !== own) return;
    asked = text;
    showAnswer({ envelope, maps: tensors.maps }, { seconds: (performance.now() - began) / 1000 });
  } catch (error) {
    if (inFlight !== own) return;
    part("status").textContent = error.name === "AbortError" ? "Cancelled." : "No answer.";
    if (error.name !== "AbortError") failed(error);
  } finally {
    if (inFlight === own) {
      inFlight = null;
      part("cancel").hidden = true;
      describe();
    }
  }
}

function failed(error) {
  if (error.wantsKey) {
    part("key-field").hidden = false;
    part("key").focus();
  }
  showError(
    part("error"),
    error.code ? error : { code: "page", message: "The page itself failed.", got: error.message },
  );
}

// The answer

function showAnswer(next, { seconds }) {
  const playing = answer === null ? !calm.matches : stage.playing;
  answer = next;
  const { clips, video, model } = answer.envelope;
  const [top] = video.labels;
  const numMaps = clips[0].explanations.length;
  part("top-label").textContent = top.label;
  part("top-score").textContent = percent(top.score);
  showLabels(part("labels"), video.labels);
  showExplanations(part("explanation-list"), numMaps);
  showClips(part("clip-list"), clips);
  showTaps(part("taps"), Object.keys(model.tap_streams));
  part("facts").textContent = [
    `${model.name} in ${model.engine}`,
    model.certified ? "certified" : "not certified",
    `${video.width_px}×${video.height_px}`,
    plural(video.num_frames, "frame"),
  ].join(", ");
  part("answer").hidden = part("clips").hidden = false;
  part("frame").max = video.num_frames - 1;
  for (const id of ["frame", "play"]) part(id).disabled = video.num_frames < 2;
  stage.show(answer);
  part("notice").hidden = stage.hasPicture;
  if (playing && video.num_frames > 1) stage.play();
  const counts = `${plural(clips.length, "clip")}, ${plural(numMaps, "map")} each`;
  part("status").textContent = `${top.label}, ${percent(top.score)}: ${counts}, in ${seconds.toFixed(2)} s.`;
}

function showFrame() {
  const { frame, numFrames, seconds, clip } = stage;
  const timed = answer.envelope.video.duration_seconds !== null;
  const words = `frame ${frame} of ${numFrames}${timed ? `, ${seconds.toFixed(2)} s` : ""}`;
  part("time").textContent = words;
  part("frame").value = frame;
  part("frame").setAttribute("aria-valuetext", words);
  const chip = clip && part("clip-list").children[clip.index].querySelector("input");
  if (chip && !chip.checked) {
    chip.checked = true;
    const strip = part("clip-list");
    strip.scrollTo({
      left: chip.parentElement.offsetLeft - strip.clientWidth / 3,
      behavior: calm.matches ? "auto" : "smooth",
    });
  }
  if (clip) describeExplanations(clip);
}

function describeExplanations(clip) {
  updateExplanations(part("explanation-list"), clip, answer.envelope.attribution);
  const chosen = part("explanation-list").querySelector("input:checked").value;
  part("heat").setAttribute(
    "aria-label",
    `Map of ${clip.explanations[chosen].label}, clip ${clip.index + 1} of ${answer.envelope.clips.length}`,
  );
}

// What the visitor does

function take(next) {
  if (!next) return;
  // Its answer would be shown over the new file.
  inFlight?.abort();
  inFlight = null;
  file = next;
  answer = asked = null;
  part("viewer").hidden = false;
  part("answer").hidden = part("clips").hidden = part("notice").hidden = true;
  part("file-label").replaceChildren(
    Object.assign(document.createElement("span"), { className: "name", textContent: file.name }),
    ` ${size(file.size)} `,
    Object.assign(document.createElement("span"), { className: "button", textContent: "Choose another" }),
  );
  part("drop").classList.add("taken");
  for (const id of ["frame", "play"]) part(id).disabled = true;
  part("time").textContent = "no answer yet";
  loaded = stage.load(file);
  describe();
  part("form").requestSubmit();
}

part("file").addEventListener("change", (event) => take(event.target.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  part("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => part("drop").classList.toggle("over", event.relatedTarget !== null));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  part("drop").classList.remove("over");
  take(event.dataTransfer.files[0]);
});

part("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (file) askServer();
});
part("form").addEventListener("input", describe);
part("cancel").addEventListener("click", () => inFlight?.abort());

part("play").addEventListener("click", () => (stage.playing ? stage.pause() : stage.play()));
part("frame").addEventListener("input", (event) => {
  stage.pause();
  stage.seek(Number(event.target.value));
});
part("speed").addEventListener("change", (event) => (stage.speed = Number(event.target.value)));
part("clip-list").addEventListener("change", (event) =>
  stage.seek(answer.envelope.clips[event.target.value].start_frame),
);
part("explanation-list").addEventListener("change", (event) => {
  stage.explanation = Number(event.target.value);
  describeExplanations(stage.clip);
});
stage.addEventListener("frame", showFrame);
stage.addEventListener("playing", () => (part("play").textContent = stage.playing ? "Pause" : "Play"));

for (const [id, name] of [
  ["show-map", "no-map"],
  ["show-boxes", "no-boxes"],
]) {
  part(id).addEventListener("change", (event) => part("stage").classList.toggle(name, !event.target.checked));
}
part("opacity").addEventListener("input", (event) =>
  part("stage").style.setProperty("--opacity", event.target.value / 100),
);
part("palette").addEventListener("change", (event) => choosePalette(event.target.value));

function choosePalette(name) {
  stage.palette = name;
  const context = part("legend").getContext("2d");
  const strip = context.createImageData(256, 1);
  new Uint32Array(strip.data.buffer).set(heatColours(name));
  // The legend is opaque: it is about colour alone.
  for (let value = 0; value < 256; value++) strip.data[4 * value + 3] = 255;
  context.putImageData(strip, 0, 0);
}

const model = new URLSearchParams(location.search).get("model");
if (model) part("model").value = model;
part("file-limit").textContent = size(MAX_REQUEST_BYTES);
choosePalette(part("palette").value);
describe();
