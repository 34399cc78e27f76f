// Which clip, place and boxes of an answer belong to a moment of the video.

// Containers round time stamps to milliseconds: a frame counts as on screen from this long before its own.
const STAMP_SLACK_SECONDS = 0.001;
// Of what has no clock: arrays, single pictures.
const UNTIMED_FPS = 25;

/**
 * When each source frame begins, in seconds, and, last, when the video ends. The reply times the ends of clips and
 * every frame that has a box; frames between two of these are spread evenly.
 */
export function frameTimes({ video, clips }) {
  const times = new Float64Array(video.num_frames + 1).fill(NaN);
  for (const clip of clips) {
    times[clip.start_frame] = clip.start_seconds ?? NaN;
    times[clip.end_frame] = clip.end_seconds ?? NaN;
    for (const box of clip.explanations.flatMap((explanation) => explanation.boxes))
      times[box.frame] = box.time_seconds ?? NaN;
  }
  if (Number.isNaN(times[0])) return times.map((_, frame) => frame / (video.fps ?? UNTIMED_FPS));
  let known = 0;
  for (let frame = 1; frame < times.length; frame++) {
    if (Number.isNaN(times[frame])) continue;
    const step = (times[frame] - times[known]) / (frame - known);
    for (let between = known + 1; between < frame; between++) times[between] = times[known] + step * (between - known);
    known = frame;
  }
  return times;
}

/** The frame on screen at that time; the first or the last where it is outside the video. */
export function frameAt(times, seconds) {
  let first = 0;
  let end = times.length - 1;
  while (end - first > 1) {
    const middle = (first + end) >> 1;
    if (times[middle] <= seconds + STAMP_SLACK_SECONDS) first = middle;
    else end = middle;
  }
  return first;
}

/** The first clip that stands for the frame: the one whose boxes it has. */
export function clipAt(clips, frame) {
  return clips.find((clip) => clip.start_frame <= frame && frame < clip.end_frame) ?? null;
}

/** The clip's first place that shows the frame, or, where resampling dropped it, the last one shown before. */
export function placeAt(clip, frame) {
  return clip.frames.indexOf(Math.max(...clip.frames.filter((shown) => shown <= frame)));
}

/** A clip's map of one explained class at one place: a view of H*W values of the maps (N,E,T,H,W). */
export function mapAt({ shape, data }, { clip, explanation, place }) {
  const [, E, T, H, W] = shape;
  const start = ((clip * E + explanation) * T + place) * H * W;
  return data.subarray(start, start + H * W);
}
