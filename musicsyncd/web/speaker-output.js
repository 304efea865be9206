// The audio context of a browser that plays: two ways to feed it, and what stands between that and the loudspeaker.
//
// With an AudioWorklet the engine runs in the audio thread. Browsers have that in secure contexts only, so over plain
// http stretches of sound are made here a second ahead and put in the context's calendar, each to begin with the frame
// after the last one of the stretch before. A change takes back what lies behind it: both versions are the same
// sound up to there, and one is faded into the other.

import { Engine } from "./speaker-engine.js";
import { OutputLine } from "./speaker-line.js";

const BLOCK_S = 0.25;
const AHEAD_S = 1;
const AHEAD_HIDDEN_S = 3; // timers of a page in the background are called once a second
const SAFETY_S = 0.04; // from being made to being heard, beside what the context itself holds
const URGENT_S = 0.06; // so shortly before, sound is made of what has come, and little of it at a time
const SHORT_S = 0.04;
const HANDOVER_S = 0.01;
const BEFORE_CHANGE_S = 0.03;
const GLIDE_S = 0.015; // time constant of volume and channels
const FALLBACK_UNCERTAINTY_US = 20000;
const MATRIX = { stereo: [1, 0, 0, 1], left: [1, 0, 1, 0], right: [0, 1, 0, 1], mono: [0.5, 0.5, 0.5, 0.5] };

const volumeGain = (percent) => (percent / 100) ** 3;

/** Open the sound card; without `worklet` by the calendar even where there are worklets. Call it while handling a click. */
export async function openOutput({ worklet = true } = {}) {
  const context = new AudioContext({ latencyHint: "balanced" });
  if (worklet && context.audioWorklet) {
    try {
      await context.audioWorklet.addModule(new URL("./speaker-worklet.js", import.meta.url));
      return new WorkletOutput(context);
    } catch {
      // An old browser, whose worklets have no imports: the other way does as well.
    }
  }
  return new CalendarOutput(context);
}

class Output {
  underruns = 0;
  #stamped = true;
  #matrix;
  #volume;

  constructor(context) {
    this.context = context;
    this.line = new OutputLine(context.sampleRate);
    // Each of two channels in goes to each of two out by a gain of its own.
    this.input = new GainNode(context, { channelCount: 2, channelCountMode: "explicit" });
    const splitter = new ChannelSplitterNode(context, { numberOfOutputs: 2 });
    const merger = new ChannelMergerNode(context, { numberOfInputs: 2 });
    this.#matrix = MATRIX.stereo.map((gain, i) => {
      const node = new GainNode(context, { gain });
      splitter.connect(node, i % 2).connect(merger, 0, i >> 1);
      return node;
    });
    this.#volume = new GainNode(context, { gain: 0 });
    this.input.connect(splitter);
    merger.connect(this.#volume).connect(context.destination);
  }

  /** Set how loud, and which channels go where. */
  setLevels(percent, roomPercent, muted, channels) {
    const now = this.context.currentTime, gain = muted ? 0 : volumeGain(percent) * volumeGain(roomPercent);
    this.#volume.gain.setTargetAtTime(gain, now, GLIDE_S);
    (MATRIX[channels] ?? MATRIX.stereo).forEach((to, i) => this.#matrix[i].gain.setTargetAtTime(to, now, GLIDE_S));
  }

  /** How loud it is now, as an amplitude. */
  get volume() {
    return this.#volume.gain.value;
  }

  /** Look which frame leaves the sound card now. */
  look() {
    const { context } = this, now = performance.now();
    let { contextTime, performanceTime } = context.getOutputTimestamp?.() ?? {};
    const behind = context.currentTime - contextTime - (now - performanceTime) / 1e3;
    this.#stamped = contextTime > 0 && performanceTime > 0 && Math.abs(behind) < 3;
    if (!this.#stamped) {
      contextTime = context.currentTime - (context.outputLatency || context.baseLatency || 0);
      performanceTime = now;
    }
    if (context.state === "running" && contextTime > 0) {
      const { jumps } = this.line, line = this.line.observe(contextTime * context.sampleRate, performanceTime * 1e6);
      if (line) this.setLine(line);
      if (this.line.jumps !== jumps) this.jumped();
    }
  }

  /** How long before it sounds a frame must be made. */
  get latencyS() {
    return this.ownLatencyS + (this.context.outputLatency || this.context.baseLatency || 0.05);
  }

  get uncertaintyUs() {
    return this.#stamped ? 2 * (this.line.line?.spreadUs ?? 0) : FALLBACK_UNCERTAINTY_US;
  }

  close() {
    return this.context.close();
  }
}

class WorkletOutput extends Output {
  way = "worklet";
  ownLatencyS = SAFETY_S;
  figures = { state: "waiting", starvedFrames: 0, underruns: 0, errorNs: 0, correction: 0, steps: 0, plan: null };

  constructor(context) {
    super(context);
    this.node = new AudioWorkletNode(context, "musicsyncd-speaker", { numberOfInputs: 0, outputChannelCount: [2] });
    this.node.port.onmessage = ({ data }) => { this.figures = data; };
    this.node.connect(this.input);
  }

  setLine(line) {
    this.node.port.postMessage({ line });
  }

  follow(course) {
    this.node.port.postMessage({ course });
  }

  add(id, index, samples) {
    this.node.port.postMessage({ add: { id, index, samples } }, [samples.buffer]);
  }

  drop(id, index) {
    this.node.port.postMessage({ drop: { id, index } });
  }

  made(frame) {
    const { plan } = this.figures;
    return plan && { host: plan.start + (frame - plan.frame) * plan.nsPerFrame, connection: plan.connection };
  }

  tick() {}

  jumped() {}
}

class CalendarOutput extends Output {
  way = "calendar";
  ownLatencyS = URGENT_S + BEFORE_CHANGE_S;
  #engine;
  #generation = null;
  #next = 0;
  #broken = false;

  constructor(context) {
    super(context);
    this.#engine = new Engine(context.sampleRate);
  }

  get figures() {
    const { state, starvedFrames, servo } = this.#engine;
    const { errorNs, correction, steps } = servo;
    return { state, starvedFrames, underruns: this.underruns, errorNs, correction, steps };
  }

  setLine(line) {
    this.#engine.setLine(line);
  }

  add(id, index, samples) {
    this.#engine.sounds.add(id, index, samples);
    this.tick();
  }

  drop(id, index) {
    this.#engine.sounds.drop(id, index);
  }

  made(frame) {
    return this.#engine.made(frame);
  }

  follow(course) {
    const before = this.course;
    this.course = course;
    this.#engine.follow(course);
    if (before && (before.spans !== course.spans || before.connection !== course.connection)) this.#takeBack(before);
    this.tick();
  }

  /** The sound card began anew: what is in the calendar is for another time. */
  jumped() {
    this.#makeAgain(0);
    this.tick();
  }

  /** Let what was made for later than a change be made again. */
  #takeBack(before) {
    const { sampleRate, currentTime } = this.context;
    if (before.connection !== this.course.connection) return this.#makeAgain(0);
    const now = this.#engine.made(currentTime * sampleRate)?.host ?? -Infinity;
    const at = firstDifference(before.spans, this.course.spans, now);
    if (at !== Infinity) this.#makeAgain((this.#engine.frameOf(at) ?? 0) - BEFORE_CHANGE_S * sampleRate);
  }

  #makeAgain(from) {
    const { sampleRate, currentTime } = this.context;
    const frame = Math.max(Math.floor(from), Math.ceil((currentTime + SAFETY_S) * sampleRate));
    if (frame >= this.#next) return;
    this.#engine.rewind(frame);
    this.#end(frame);
    this.#next = frame;
  }

  /** End what is in the calendar at a frame, while what follows rises. */
  #end(frame) {
    const at = frame / this.context.sampleRate, before = this.#generation;
    if (!before) return;
    before.gain.gain.setValueAtTime(1, at);
    before.gain.gain.linearRampToValueAtTime(0, at + HANDOVER_S);
    for (const source of before.sources) source.stop(at + HANDOVER_S);
    this.#generation = this.#begin(at);
  }

  #begin(at) {
    const gain = new GainNode(this.context, { gain: at === null ? 1 : 0 });
    if (at !== null) {
      gain.gain.setValueAtTime(0, at);
      gain.gain.linearRampToValueAtTime(1, at + HANDOVER_S);
    }
    gain.connect(this.input);
    return { gain, sources: new Set() };
  }

  /** Make what is due, and put it in the calendar. */
  tick() {
    const { context } = this, { sampleRate } = context;
    if (context.state !== "running" || !this.line.line || !this.course?.mapping) return;
    const now = context.currentTime * sampleRate, block = Math.round(BLOCK_S * sampleRate);
    const ahead = (document.hidden ? AHEAD_HIDDEN_S : AHEAD_S) * sampleRate;
    if (this.#next < now + SAFETY_S * sampleRate / 2) {
      if (this.#next && this.#engine.sounding) {
        this.underruns++;
        this.#broken = true;
      }
      this.#next = Math.ceil(now + SAFETY_S * sampleRate);
    }
    while (this.#next < now + ahead) {
      const isReady = this.#engine.ready(this.#next, block);
      if (!isReady && this.#next > now + URGENT_S * sampleRate) break;
      const frames = isReady ? block : Math.round(SHORT_S * sampleRate);
      this.#put(this.#next, frames);
      this.#next += frames;
    }
  }

  #put(frame, frames) {
    const { context } = this, buffer = new AudioBuffer({ length: frames, numberOfChannels: 2, sampleRate: context.sampleRate });
    const sounds = this.#engine.render(frame, buffer.getChannelData(0), buffer.getChannelData(1), this.#broken);
    this.#broken = false;
    if (!sounds) return;
    this.#generation ??= this.#begin(null);
    const source = new AudioBufferSourceNode(context, { buffer }), { sources, gain } = this.#generation;
    source.connect(gain);
    source.start(frame / context.sampleRate);
    sources.add(source);
    source.onended = () => {
      sources.delete(source);
      source.disconnect();
      if (!sources.size && this.#generation?.sources !== sources) gain.disconnect();
    };
  }
}

/** From when on two time lines differ, beyond an instant; Infinity if they do not. */
export function firstDifference(before, after, now) {
  const key = (span) => [span.start_ns, span.entry, span.frame, span.track.id, span.fade_ms].join();
  const ends = (span) => span.end_ns + (span.fall_ms ?? 0) * 1e6 + 1e8;
  const lasts = (span) => ends(span) > now;
  const old = new Map(before.filter(lasts).map((span) => [key(span), span]));
  let first = Infinity;
  for (const span of after.filter(lasts)) {
    const same = old.get(key(span));
    old.delete(key(span));
    if (!same) first = Math.min(first, span.start_ns);
    else if (JSON.stringify(same) !== JSON.stringify(span)) {
      first = Math.min(first, same.end_ns, span.end_ns, same.fall_ns ?? Infinity, span.fall_ns ?? Infinity);
    }
  }
  for (const span of old.values()) first = Math.min(first, span.start_ns);
  return first;
}
