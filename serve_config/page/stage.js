// The video, or nothing, with the map and the boxes of an answer over it, frame by frame.

import { clipAt, frameAt, frameTimes, mapAt, placeAt } from "./answer.js";
import { SilentClock } from "./clock.js";
import { greyColours, heatColours } from "./palettes.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * Says "frame" when another frame is on screen and "playing" when it starts or stops. Until `show` has given it an
 * answer it only holds the file's picture.
 *
 * `root` holds a video, an img, the canvases .heat and .grey and an svg, all on top of each other.
 */
export class Stage extends EventTarget {
  #parts;
  #url = null;
  #picture = null; // "video", "image" or, where the browser can show neither, null
  #answer = null;
  #times = null;
  #clock = null;
  #clockEnds = null; // aborted when another clock takes over
  #rate = 1;
  #explanation = 0;
  #colours = heatColours("turbo");

  frame = 0;

  constructor(root) {
    super();
    const part = (selector) => root.querySelector(selector);
    this.#parts = {
      root,
      video: part("video"),
      image: part("img"),
      heat: part(".heat"),
      grey: part(".grey"),
      svg: part("svg"),
    };
  }

  /** Shows the file's picture, where the browser can, and forgets the answer before. */
  async load(file) {
    const { video, image } = this.#parts;
    this.clear();
    URL.revokeObjectURL(this.#url);
    this.#url = URL.createObjectURL(file);
    this.#picture = null;
    this.#place();
    if (await loads(video, this.#url, { done: "loadeddata", width: "videoWidth" })) this.#picture = "video";
    else if (await loads(image, this.#url, { done: "load", width: "naturalWidth" })) this.#picture = "image";
    this.#place();
  }

  /** Takes map and boxes away. */
  clear() {
    this.#clock?.pause();
    this.#clockEnds?.abort();
    this.#answer = this.#clock = null;
    for (const canvas of [this.#parts.heat, this.#parts.grey]) canvas.width = canvas.height = 1;
    this.#parts.svg.replaceChildren();
    this.dispatchEvent(new Event("playing"));
  }

  /** Draws the answer from now on: {envelope, maps}, maps as `readSafetensors` gives them. */
  show(answer) {
    const { width_px: width, height_px: height, num_frames: numFrames } = answer.envelope.video;
    const [x1, y1, x2, y2] = answer.envelope.map_region_xyxy_px;
    const seconds = this.#clock?.currentTime ?? 0;
    this.clear();
    this.#answer = answer;
    this.#times = frameTimes(answer.envelope);
    this.#explanation = 0;
    // Only one picture lies still under its map.
    if (this.#picture === "image" && numFrames > 1) this.#picture = null;
    this.#place();
    const [H, W] = answer.maps.shape.slice(3);
    for (const canvas of [this.#parts.heat, this.#parts.grey]) {
      Object.assign(canvas, { width: W, height: H });
      const sides = { left: x1 / width, top: y1 / height, width: (x2 - x1) / width, height: (y2 - y1) / height };
      for (const [side, share] of Object.entries(sides)) canvas.style[side] = `${100 * share}%`;
    }
    this.#parts.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (this.#picture === "video") {
      this.#start(this.#parts.video);
    } else {
      this.#start(new SilentClock(this.#times[numFrames]));
      this.#clock.currentTime = seconds;
    }
    this.#draw(this.#clock.currentTime, { again: true });
  }

  get hasPicture() {
    return this.#picture !== null;
  }

  get numFrames() {
    return this.#answer.envelope.video.num_frames;
  }

  get seconds() {
    return this.#times[this.frame];
  }

  get clip() {
    return clipAt(this.#answer.envelope.clips, this.frame);
  }

  get playing() {
    return this.#clock !== null && !this.#clock.paused;
  }

  play() {
    // A browser may refuse, to save power: then it stays as it is.
    this.#clock.play().catch(() => {});
  }

  pause() {
    this.#clock.pause();
  }

  set speed(rate) {
    this.#rate = rate;
    if (this.#clock) this.#clock.playbackRate = rate;
  }

  /** Goes to a source frame. */
  seek(frame) {
    // Half way to the next: a time stamp itself may be rounded to the frame before.
    this.#clock.currentTime = (this.#times[frame] + this.#times[frame + 1]) / 2;
  }

  /** Draws another of the classes explained. */
  set explanation(index) {
    this.#explanation = index;
    this.#paint();
  }

  set palette(name) {
    this.#colours = heatColours(name);
    if (this.#answer) this.#paint();
  }

  #place() {
    const { root, video, image } = this.#parts;
    video.hidden = this.#picture !== "video";
    image.hidden = this.#picture !== "image";
    const source = this.#answer?.envelope.video;
    const [width, height] =
      this.#picture === "video"
        ? [video.videoWidth, video.videoHeight]
        : source
          ? [source.width_px, source.height_px]
          : [16, 9];
    root.style.setProperty("--aspect", width / height);
  }

  #start(clock) {
    this.#clock = clock;
    clock.playbackRate = this.#rate;
    this.#clockEnds = new AbortController();
    const { signal } = this.#clockEnds;
    const changed = () => this.dispatchEvent(new Event("playing"));
    for (const kind of ["play", "pause"]) clock.addEventListener(kind, changed, { signal });
    clock.addEventListener("seeked", () => this.#draw(clock.currentTime), { signal });
    if (clock.requestVideoFrameCallback) {
      // The only way to know which frame is on screen: currentTime runs ahead of it.
      const presented = (_, { mediaTime }) => {
        if (signal.aborted) return;
        this.#draw(mediaTime);
        clock.requestVideoFrameCallback(presented);
      };
      clock.requestVideoFrameCallback(presented);
    } else {
      const refreshed = () => {
        if (signal.aborted) return;
        if (!clock.paused) this.#draw(clock.currentTime);
        requestAnimationFrame(refreshed);
      };
      requestAnimationFrame(refreshed);
    }
    changed();
  }

  #draw(seconds, { again = false } = {}) {
    const frame = frameAt(this.#times, seconds);
    if (frame === this.frame && !again) return;
    this.frame = frame;
    this.#paint();
    this.dispatchEvent(new Event("frame"));
  }

  #paint() {
    const { clip, frame } = this;
    const explanation = this.#explanation;
    const values = clip && mapAt(this.#answer.maps, { clip: clip.index, explanation, place: placeAt(clip, frame) });
    paint(this.#parts.heat, values, this.#colours);
    paint(this.#parts.grey, values, GREY);
    const boxes = clip?.explanations[explanation].boxes.filter((box) => box.frame === frame) ?? [];
    this.#parts.svg.replaceChildren(
      rectangle(this.#answer.envelope.map_region_xyxy_px, "region"),
      ...boxes.flatMap(({ box_xyxy_px }) => [rectangle(box_xyxy_px, "under"), rectangle(box_xyxy_px, "over")]),
    );
  }
}

const GREY = greyColours();

/** Whether the element has something to show of what lies at the address. */
function loads(element, url, { done, width }) {
  return new Promise((resolve) => {
    const settled = new AbortController();
    const settle = () => {
      settled.abort();
      resolve(element[width] > 0);
    };
    for (const kind of [done, "error"]) element.addEventListener(kind, settle, { signal: settled.signal });
    element.src = url;
  });
}

function paint(canvas, values, colours) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  values?.forEach((value, index) => {
    pixels[index] = colours[value];
  });
  context.putImageData(image, 0, 0);
}

function rectangle([x1, y1, x2, y2], kind) {
  const rect = document.createElementNS(SVG, "rect");
  const attributes = { class: kind, x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
  for (const [name, value] of Object.entries(attributes)) rect.setAttribute(name, value);
  return rect;
}
