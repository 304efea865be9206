// From a time line to samples, in a browser. Pure: frames, times and numbers come in, samples go out; it knows nothing
// of sockets, of the page and of audio contexts, so the same code runs in an AudioWorklet and beside it.
//
// Times are nanoseconds of the host, counted from the base that the host chose for the connection; "frame" alone is
// a frame of the audio context, and where a track's is meant it says so. The laws are those of the speakers
// (playback/servo.py, playback/renderer.py, playback/resampler.py), with looser limits where a browser's clocks are.

const FADE_NS = 5e6; // of a cut, as every speaker does it
const SEAM_NS = 2e6; // where two tracks of different rates meet: each falls so far from its end
const BLEND_FRAMES = 480; // of a step, 10 ms at 48 kHz
const TIME_CONSTANT_NS = 3e9; // twice the speakers': output stamps of browsers move by tenths of a millisecond
const SMOOTHING_NS = TIME_CONSTANT_NS / 4; // critical damping
const MAX_CORRECTION = 300e-6; // half a cent
const STEP_NS = 5e6;
const CATCHING_UP_NS = 2e6;
const TOGETHER_NS = 1e6;
const MAX_PLANS = 256; // remembered: a minute of quarter seconds, some seconds of render quanta
const MAX_SOUNDS = 16; // tracks of which frames are held

const HALF_WIDTH = 16; // 32 taps: flat to 0.85 of Nyquist
const MAX_HALF_WIDTH = 64;
const PHASES = 512; // lines between them are 105 dB down
const KAISER_BETA = 8.6;

function besselI0(x) {
  let sum = 1, term = 1;
  for (let k = 1; k < 40; k++) { term *= (x / (2 * k)) ** 2; sum += term; }
  return sum;
}

/** The windowed sinc of one ratio of rates, tabulated: PHASES + 1 rows of 2 * half taps. */
export function kernel(trackRate, contextRate) {
  const ratio = trackRate / contextRate;
  const half = ratio > 1 ? Math.min(MAX_HALF_WIDTH, Math.ceil(HALF_WIDTH * ratio)) : HALF_WIDTH;
  const cutoff = ratio > 1 ? 0.9 / ratio : 1;
  const taps = 2 * half, table = new Float32Array((PHASES + 1) * taps), scale = besselI0(KAISER_BETA);
  for (let phase = 0; phase <= PHASES; phase++) {
    for (let tap = 0; tap < taps; tap++) {
      const distance = tap - half + 1 - phase / PHASES, inside = 1 - (distance / half) ** 2;
      const angle = Math.PI * cutoff * distance;
      const sinc = Math.abs(angle) < 1e-9 ? 1 : Math.sin(angle) / angle;
      table[phase * taps + tap] = inside <= 0 ? 0 : cutoff * sinc * besselI0(KAISER_BETA * Math.sqrt(inside)) / scale;
    }
  }
  return { half, taps, table };
}

/** Decoded frames of tracks, in chunks of one second each: Int16Array, left and right in turn. */
export class Sounds {
  #tracks = new Map();

  add(id, index, samples) {
    if (!this.#tracks.has(id)) this.#tracks.set(id, new Map());
    this.#tracks.get(id).set(index, samples);
    if (this.#tracks.size > MAX_SOUNDS) this.#tracks.delete(this.#tracks.keys().next().value);
  }

  drop(id, index) {
    const chunks = this.#tracks.get(id);
    if (chunks?.delete(index) && !chunks.size) this.#tracks.delete(id);
  }

  /** Copy a track's frames to two arrays, silence where there are none; return how many are still to come. */
  read(track, first, count, left, right) {
    const chunks = this.#tracks.get(track.id);
    let missing = 0;
    for (let done = 0; done < count;) {
      const frame = first + done;
      let size;
      if (frame < 0 || frame >= track.frames) {
        size = frame < 0 ? Math.min(count - done, -frame) : count - done;
        left.fill(0, done, done + size);
        right.fill(0, done, done + size);
      } else {
        const index = Math.floor(frame / track.rate_hz), within = frame - index * track.rate_hz;
        size = Math.min(count - done, track.rate_hz - within, track.frames - frame);
        const chunk = chunks?.get(index);
        if (!chunk) {
          left.fill(0, done, done + size);
          right.fill(0, done, done + size);
          missing += size;
        } else {
          for (let i = 0, at = 2 * within; i < size; i++, at += 2) {
            left[done + i] = (chunk[at] ?? 0) / 32768;
            right[done + i] = (chunk[at + 1] ?? 0) / 32768;
          }
        }
      }
      done += size;
    }
    return missing;
  }
}

/** Holds the line by which sound is made to the line that is wanted, without being heard. See playback/servo.py. */
export class Servo {
  next = null;
  correction = 0;
  errorNs = 0;
  state = "together";
  steps = 0;

  restart() {
    this.next = null;
    this.correction = 0;
  }

  /** Plan the next block: {start, nsPerFrame, old: null | {start, nsPerFrame}}. */
  plan(wanted, wantedNsPerFrame, frames, mustStep) {
    if (this.next === null) {
      this.errorNs = 0;
      this.state = "together";
      return this.#goOn(wanted, wantedNsPerFrame, frames, null);
    }
    const start = this.next;
    this.errorNs = wanted - start;
    if (mustStep || Math.abs(this.errorNs) > STEP_NS) {
      const old = { start, nsPerFrame: wantedNsPerFrame * (1 + this.correction) };
      this.steps++;
      this.correction = this.errorNs = 0;
      this.state = "together";
      return this.#goOn(wanted, wantedNsPerFrame, frames, old);
    }
    const target = Math.max(-MAX_CORRECTION, Math.min(MAX_CORRECTION, this.errorNs / TIME_CONSTANT_NS));
    this.correction += (target - this.correction) * -Math.expm1(-frames * wantedNsPerFrame / SMOOTHING_NS);
    const size = Math.abs(this.errorNs);
    if (size > CATCHING_UP_NS) this.state = "catching up";
    else if (size < TOGETHER_NS) this.state = "together";
    return this.#goOn(start, wantedNsPerFrame * (1 + this.correction), frames, null);
  }

  #goOn(start, nsPerFrame, frames, old) {
    this.next = start + frames * nsPerFrame;
    return { start, nsPerFrame, old };
  }
}

/** What sounds at an instant: the span, or null. */
export function soundingAt(spans, host) {
  let found = null;
  for (const span of spans) if (span.start_ns <= host && host < span.end_ns) found = span;
  return found;
}

/** The track's frame that a span has at an instant. */
export function placeAt(span, host) {
  return span.frame + (host - span.start_ns - span.start_fraction_ns) * span.track.rate_hz / 1e9;
}

function differ(before, after, host) {
  const a = soundingAt(before, host), b = soundingAt(after, host);
  if (!a || !b) return a !== b;
  return a.entry !== b.entry || a.track.id !== b.track.id || Math.abs(placeAt(a, host) - placeAt(b, host)) > 0.01;
}

/**
 * Makes blocks of samples. What it follows is a course, {spans, mapping, delayNs, connection}: mapping is
 * {local_ns, host_ns, skew_ppm}; two connections count the host's time from different instants. And a line,
 * {frame, localNs, nsPerFrame}: when the context's frames sound.
 */
export class Engine {
  sounds = new Sounds();
  servo = new Servo();
  starvedFrames = 0;
  starving = false;
  sounding = false;
  plans = []; // {frame, start, nsPerFrame, connection} of the blocks so far
  #rate;
  #kernels = new Map();
  #course = null;
  #playing = null;
  #line = null;
  #blend = null;
  #starved = new Set();
  #window = [new Float32Array(0), new Float32Array(0)];
  #piece = [new Float32Array(0), new Float32Array(0)];
  #old = [new Float32Array(0), new Float32Array(0)];

  constructor(contextRate) {
    this.#rate = contextRate;
  }

  follow(course) {
    this.#course = course;
  }

  setLine(line) {
    this.#line = line;
  }

  get state() {
    if (!this.#course?.mapping || !this.#line || !this.plans.length) return "waiting";
    if (!this.sounding) return "silent";
    return this.starving ? "waiting" : this.servo.state;
  }

  /** The host's time at which a context frame should sound, and how much of it each frame takes; null if unknown. */
  wanted(frame) {
    const line = this.#line, mapping = this.#course?.mapping;
    if (!line || !mapping) return null;
    const elapsed = line.localNs + (frame - line.frame) * line.nsPerFrame + this.#course.delayNs - mapping.local_ns;
    return {
      host: mapping.host_ns + elapsed * (1 + mapping.skew_ppm * 1e-6),
      nsPerFrame: line.nsPerFrame * (1 + mapping.skew_ppm * 1e-6),
    };
  }

  /** The context frame at which an instant of the host should sound; null if unknown. */
  frameOf(host) {
    const at = this.wanted(0);
    return at && (host - at.host) / at.nsPerFrame;
  }

  /** Where sound was made for a context frame: {host, connection}, or null. */
  made(frame) {
    const plan = this.plans.findLast((one) => one.frame <= frame);
    return plan ? { host: plan.start + (frame - plan.frame) * plan.nsPerFrame, connection: plan.connection } : null;
  }

  /** Whether all that a block needs has come. */
  ready(frame, count) {
    const at = this.wanted(frame);
    if (!at) return false;
    return this.#course.spans.every((span) => {
      const [first, last] = this.#reach(span, at.host, at.nsPerFrame, count);
      if (first >= last) return true;
      const place = Math.floor(placeAt(span, at.host + first * at.nsPerFrame)), half = MAX_HALF_WIDTH;
      const frames = Math.ceil((last - first) * at.nsPerFrame * span.track.rate_hz / 1e9) + 2 * half;
      this.#window = this.#sized(this.#window, frames);
      return this.sounds.read(span.track, place - half, frames, ...this.#window) === 0;
    });
  }

  /** Forget the blocks from a frame on: they will be made again, and are faded over by whoever plays them. */
  rewind(frame) {
    const made = this.made(frame);
    while (this.plans.length && this.plans.at(-1).frame >= frame) this.plans.pop();
    this.#playing = this.#course;
    this.#blend = null;
    if (made && made.connection === this.#course?.connection && this.servo.next !== null) this.servo.next = made.host;
    else this.servo.restart();
  }

  /** Fill a block from a context frame on; broken: the frames before it were not played as planned. Says if it sounds. */
  render(frame, left, right, broken = false) {
    left.fill(0);
    right.fill(0);
    const at = this.wanted(frame), course = this.#course, count = left.length;
    if (!at) {
      this.sounding = false;
      return false;
    }
    const before = this.#playing ?? course;
    this.#playing = course;
    const moved = course.connection !== before.connection;
    if (!this.sounding) this.servo.restart();
    const plan = this.servo.plan(at.host, at.nsPerFrame, count, moved || broken);
    this.plans.push({ frame, start: plan.start, nsPerFrame: plan.nsPerFrame, connection: course.connection });
    if (this.plans.length > MAX_PLANS) this.plans.shift();
    const was = this.sounding;
    this.starving = false;
    this.sounding = this.#add(course.spans, plan.start, plan.nsPerFrame, left, right);
    this.#startBlend(frame, plan, course, before, was);
    this.#applyBlend(frame, left, right);
    return this.sounding || was;
  }

  #startBlend(frame, plan, course, before, was) {
    if (!was) {
      const span = soundingAt(course.spans, plan.start);
      // From silence into what the time line has sounding already: come in softly.
      if (span && plan.start - span.start_ns > 1e6) this.#blend = { frame, spans: [], start: plan.start, nsPerFrame: 1 };
    } else if (plan.old || (before.spans !== course.spans && differ(before.spans, course.spans, plan.start))) {
      this.#blend = { frame, spans: before.spans, ...(plan.old ?? { start: plan.start, nsPerFrame: plan.nsPerFrame }) };
    }
  }

  #applyBlend(frame, left, right) {
    const blend = this.#blend;
    if (!blend) return;
    const done = frame - blend.frame, count = Math.min(left.length, BLEND_FRAMES - done);
    if (count <= 0) {
      this.#blend = null;
      return;
    }
    this.#old = this.#sized(this.#old, count);
    const [oldLeft, oldRight] = this.#old.map((one) => one.subarray(0, count).fill(0));
    this.#add(blend.spans, blend.start + done * blend.nsPerFrame, blend.nsPerFrame, oldLeft, oldRight, true);
    for (let i = 0; i < count; i++) {
      const rise = 0.5 - 0.5 * Math.cos(Math.PI * (done + i + 0.5) / BLEND_FRAMES);
      left[i] = rise * left[i] + (1 - rise) * oldLeft[i];
      right[i] = rise * right[i] + (1 - rise) * oldRight[i];
    }
  }

  #sized(pair, count) {
    return pair[0].length >= count ? pair : [new Float32Array(2 * count), new Float32Array(2 * count)];
  }

  #kernel(rate) {
    if (!this.#kernels.has(rate)) {
      if (this.#kernels.size >= 8) this.#kernels.delete(this.#kernels.keys().next().value);
      this.#kernels.set(rate, kernel(rate, this.#rate));
    }
    return this.#kernels.get(rate);
  }

  /** Which frames of a block [first, last) a span reaches into. */
  #reach(span, host, nsPerFrame, count) {
    const ringing = MAX_HALF_WIDTH * 1e9 / span.track.rate_hz;
    const start = span.start_ns - (span.frame === 0 && !span.seam_before ? ringing : 0);
    const end = span.end_ns + (span.cut ? FADE_NS : span.seam_after ? 0 : ringing);
    const first = Math.ceil((start - host) / nsPerFrame), last = Math.ceil((end - host) / nsPerFrame);
    return [Math.max(first, 0), Math.min(last, count)];
  }

  #add(spans, host, nsPerFrame, left, right, quietly = false) {
    let heard = false;
    for (const span of spans) {
      const [first, last] = this.#reach(span, host, nsPerFrame, left.length);
      if (first >= last) continue;
      heard = true;
      this.#addSpan(span, host + first * nsPerFrame, nsPerFrame, left.subarray(first, last),
        right.subarray(first, last), quietly);
    }
    return heard;
  }

  #addSpan(span, host, nsPerFrame, left, right, quietly) {
    const count = left.length, { half, taps, table } = this.#kernel(span.track.rate_hz);
    const place = placeAt(span, host), step = nsPerFrame * span.track.rate_hz / 1e9;
    const origin = Math.floor(place) - half + 1, needed = Math.floor(place + (count - 1) * step) + half - origin + 1;
    this.#window = this.#sized(this.#window, needed);
    this.#piece = this.#sized(this.#piece, count);
    const [windowLeft, windowRight] = this.#window, [pieceLeft, pieceRight] = this.#piece;
    const missing = this.sounds.read(span.track, origin, needed, windowLeft, windowRight);
    const gain = 10 ** (span.track.gain_db / 20), begin = place - Math.floor(place);
    for (let i = 0; i < count; i++) {
      const position = begin + i * step, whole = Math.floor(position), phase = (position - whole) * PHASES;
      const row = Math.floor(phase), between = phase - row;
      let sumLeft = 0, sumRight = 0;
      for (let tap = 0, a = row * taps, b = a + taps; tap < taps; tap++, a++, b++) {
        const weight = table[a] + between * (table[b] - table[a]);
        sumLeft += weight * windowLeft[whole + tap];
        sumRight += weight * windowRight[whole + tap];
      }
      pieceLeft[i] = gain * sumLeft;
      pieceRight[i] = gain * sumRight;
    }
    this.#shape(span, host, nsPerFrame, count);
    if (!quietly) this.#softenGap(span, missing, needed, count);
    for (let i = 0; i < count; i++) {
      left[i] += pieceLeft[i];
      right[i] += pieceRight[i];
    }
  }

  /** Fade a span's piece in and out where it must. */
  #shape(span, host, nsPerFrame, count) {
    const [left, right] = this.#piece, since = host - span.start_ns;
    const scale = (begin, length, law) => {
      if (length <= 0) return;
      for (let i = 0; i < count; i++) {
        const gain = law(Math.max(0, Math.min(1, (begin + i * nsPerFrame) / length)));
        left[i] *= gain;
        right[i] *= gain;
      }
    };
    const duration = count * nsPerFrame, rise = (x) => 0.5 - 0.5 * Math.cos(Math.PI * x), fall = (x) => 1 - rise(x);
    if (span.fade_ms) {
      if (since < span.fade_ms * 1e6) scale(since, span.fade_ms * 1e6, (x) => Math.sin(Math.PI / 2 * x));
    } else if (span.frame > 0 && since < FADE_NS) scale(since, FADE_NS, rise);
    else if (span.seam_before && since < SEAM_NS) scale(since, SEAM_NS, rise);
    if (span.fall_ns !== null && host + duration > span.fall_ns) {
      scale(host - span.fall_ns, span.fall_ms * 1e6, (x) => Math.cos(Math.PI / 2 * x));
    }
    if (span.cut && host + duration > span.end_ns) scale(host - span.end_ns, FADE_NS, fall);
    else if (span.seam_after && host + duration > span.end_ns - SEAM_NS) {
      scale(host - span.end_ns + SEAM_NS, SEAM_NS, fall);
    }
  }

  /** Ramp a span's piece down when its frames run out, and up again when they are back. */
  #softenGap(span, missing, needed, count) {
    const [left, right] = this.#piece, starved = this.#starved.has(span.start_ns);
    if (!missing && !starved) return;
    this.starving ||= missing > 0;
    const there = missing ? Math.floor(count * (needed - missing) / needed) : count;
    this.starvedFrames += count - there;
    for (let i = 0; i < count; i++) {
      const gain = missing ? (starved ? 0 : Math.max(0, 1 - i / there)) : Math.min(1, i / BLEND_FRAMES);
      left[i] *= there ? gain : 0;
      right[i] *= there ? gain : 0;
    }
    if (missing) this.#starved.add(span.start_ns);
    else this.#starved.delete(span.start_ns);
    if (this.#starved.size > MAX_SOUNDS) this.#starved.clear();
  }
}
