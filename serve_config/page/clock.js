// A clock for what the browser cannot play: the parts of HTMLMediaElement that the stage uses, without a picture.

export class SilentClock extends EventTarget {
  #startedMs = 0;
  #startSeconds = 0;
  #rate = 1;
  paused = true;

  constructor(durationSeconds) {
    super();
    this.duration = durationSeconds;
  }

  get currentTime() {
    const elapsed = this.paused ? 0 : ((performance.now() - this.#startedMs) / 1000) * this.#rate;
    return this.duration > 0 ? (this.#startSeconds + elapsed) % this.duration : 0;
  }

  set currentTime(seconds) {
    this.#startSeconds = seconds;
    this.#startedMs = performance.now();
    this.dispatchEvent(new Event("seeked"));
  }

  set playbackRate(rate) {
    this.currentTime = this.currentTime;
    this.#rate = rate;
  }

  async play() {
    this.#startedMs = performance.now();
    this.paused = false;
    this.dispatchEvent(new Event("play"));
  }

  pause() {
    this.#startSeconds = this.currentTime;
    this.paused = true;
    this.dispatchEvent(new Event("pause"));
  }
}
