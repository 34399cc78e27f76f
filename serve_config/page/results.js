// An answer, or an error, as words on the page.

/** A score as text: "98.3 %". */
export function percent(score) {
  return `${(100 * score).toFixed(1)} %`;
}

/** "1 clip", "2 clips". */
export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** A number of bytes as text: "340 KiB", "1.2 MiB", "64 MiB". */
export function size(bytes) {
  const [number, unit] = bytes < 2 ** 20 ? [bytes / 2 ** 10, "KiB"] : [bytes / 2 ** 20, "MiB"];
  return `${number.toFixed(number < 10 ? 1 : 0)} ${unit}`;
}

/** An error {code, message, got, allowed} in words. */
export function showError(place, { code, message, got, allowed }) {
  const said = [
    ["Got", got],
    ["Allowed", allowed],
  ].filter(([, value]) => value !== null && value !== undefined);
  place.replaceChildren(
    element("p", { className: "message" }, message),
    element("dl", {}, ...said.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, inWords(value))])),
    element("p", { className: "code" }, code),
  );
}

function inWords(value) {
  if (Array.isArray(value)) return value.map(inWords).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** The scores of the whole video, best first. */
export function showLabels(list, labels) {
  list.replaceChildren(
    ...labels.map(({ label, score }) =>
      element(
        "li",
        {},
        element("span", {}, label),
        bar(score),
        element("span", { className: "figures" }, percent(score)),
      ),
    ),
  );
}

/** A radio button for each clip; the strip of them is one stop of the tab key. */
export function showClips(list, clips) {
  list.replaceChildren(
    ...clips.map((clip) => {
      const [best] = clip.labels;
      const span =
        clip.start_seconds === null
          ? `frames ${clip.start_frame} to ${clip.end_frame - 1}`
          : `${clip.start_seconds.toFixed(2)} to ${clip.end_seconds.toFixed(2)} s`;
      return choice(
        "clip",
        clip.index,
        element("span", { className: "figures" }, span),
        element("strong", {}, best.label),
        element("span", { className: "figures" }, percent(best.score)),
      );
    }),
  );
}

/** A radio button for each class explained; `updateExplanations` fills it in. */
export function showExplanations(list, count) {
  const one = (_, index) => {
    const words = ["label", "score", "empty"].map((className) => element("span", { className }));
    return choice("explanation", index, words[0], bar(0), words[1], words[2]);
  };
  list.replaceChildren(...Array.from({ length: count }, one));
  list.querySelector("input").checked = true;
}

/** What is explained in a clip: each has its own best classes, and its own layers that say nothing of them. */
export function updateExplanations(list, { explanations }, { taps }) {
  explanations.forEach(({ label, score, empty_taps: empty }, index) => {
    const row = list.children[index];
    row.querySelector(".label").textContent = label;
    row.querySelector(".score").textContent = percent(score);
    row.querySelector(".bar").style.setProperty("--share", score);
    row.querySelector(".empty").textContent =
      empty.length === 0
        ? ""
        : empty.length === taps.length
          ? "no voxel speaks for it"
          : `says nothing: ${empty.join(", ")}`;
  });
}

/** A checkbox for each of the network's layers, ticked, unless they are there already. */
export function showTaps(place, taps) {
  const there = [...place.querySelectorAll("input")].map((input) => input.value);
  if (there.join() === taps.join()) return;
  const box = (tap) =>
    element("label", {}, element("input", { type: "checkbox", name: "tap", value: tap, checked: true }), ` ${tap}`);
  place.replaceChildren(...taps.map(box));
}

function choice(name, value, ...content) {
  return element(
    "label",
    { className: "choice" },
    element("input", { type: "radio", name, value: String(value) }),
    ...content,
  );
}

function bar(share) {
  const one = element("span", { className: "bar", ariaHidden: "true" });
  one.style.setProperty("--share", share);
  return one;
}

function element(tag, properties, ...content) {
  const one = Object.assign(document.createElement(tag), properties);
  one.append(...content);
  return one;
}
