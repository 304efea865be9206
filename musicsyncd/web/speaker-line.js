// When the frames of an audio context leave the sound card, by the browser's clock. Pure arithmetic.
//
// A browser says at times which of its frames leaves just now. Each saying is off by up to some milliseconds, so a line
// is fitted through those of half a minute: least squares, with the rate held near the nominal one as far as few points
// say little of it, and once more without what is far off.

const WINDOW_NS = 30e9;
const MAX_POINTS = 400;
const RATE_SIGMA_PPM = 100; // sound cards' crystals
const KNOWN_SIGMA_PPM = 20; // of a rate that was found before a jump
const POINT_SIGMA_US = 500; // one saying, as a guess: it weighs the points against the rate expected
const FAR = 3; // standard deviations
const LEAST_SPREAD_US = 50;
const JUMP_POINTS = 5; // so many in a row that are all early, or all late, by more than this:
const LEAST_JUMP_US = 1500; // a buffer that was lost, a suspended machine, another sound card
const MIN_POINTS = 4;

const middle = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

export class OutputLine {
  #points = []; // {frame, localNs}
  #rate;
  #slope = { ppm: 0, sigmaPpm: RATE_SIGMA_PPM }; // expected
  line = null; // {frame, localNs, nsPerFrame, spreadUs, ppm}
  jumps = 0;

  constructor(contextRate) {
    this.#rate = contextRate;
  }

  /** Take in that a frame left at a local time; returns the line, or null while there are too few. */
  observe(frame, localNs) {
    if (this.#points.at(-1)?.frame === frame) return this.line;
    this.#points.push({ frame, localNs });
    this.#points = this.#points.filter((one) => localNs - one.localNs < WINDOW_NS).slice(-MAX_POINTS);
    if (this.#points.length >= MIN_POINTS && this.#fit()) {
      // What was before tells the rate, and nothing of where the line is now.
      this.#points = this.#points.slice(-JUMP_POINTS);
      this.#slope = { ppm: this.line.slopePpm, sigmaPpm: KNOWN_SIGMA_PPM };
      this.jumps++;
      this.#fit();
    }
    return this.line;
  }

  /** Fit the line, and say whether the newest points are all on one side of it, far away. */
  #fit() {
    const nominal = 1e9 / this.#rate, newest = this.#points.at(-1);
    // Seconds before the newest point, and by how many microseconds a point is later than at the nominal rate.
    const all = this.#points.map((one) => {
      const ns = (one.frame - newest.frame) * nominal;
      return { x: ns / 1e9, y: (one.localNs - newest.localNs - ns) / 1e3 };
    });
    const residuals = (line) => all.map(({ x, y }) => y - line.offset - line.slope * x);
    const first = residuals(squares(all, this.#slope)), centre = middle(first);
    const spread = Math.max(1.4826 * middle(first.map((one) => Math.abs(one - centre))), LEAST_SPREAD_US);
    const fitted = squares(all.filter((_, i) => Math.abs(first[i] - centre) <= FAR * spread), this.#slope);
    this.line = {
      frame: newest.frame,
      localNs: newest.localNs + fitted.offset * 1e3,
      nsPerFrame: nominal * (1 + fitted.slope * 1e-6),
      spreadUs: spread,
      slopePpm: fitted.slope,
    };
    const limit = Math.max(LEAST_JUMP_US, FAR * spread), last = residuals(fitted).slice(-JUMP_POINTS);
    const isOld = this.#points.length > 2 * JUMP_POINTS;
    return isOld && (last.every((one) => one > limit) || last.every((one) => one < -limit));
  }
}

function squares(points, expected) {
  const n = points.length, meanX = points.reduce((sum, { x }) => sum + x, 0) / n;
  const meanY = points.reduce((sum, { y }) => sum + y, 0) / n, weight = (POINT_SIGMA_US / expected.sigmaPpm) ** 2;
  let xx = weight, xy = weight * expected.ppm;
  for (const { x, y } of points) {
    xx += (x - meanX) ** 2;
    xy += (x - meanX) * (y - meanY);
  }
  const slope = xy / xx;
  return { slope, offset: meanY - slope * meanX };
}
