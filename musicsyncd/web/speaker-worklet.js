// The engine inside the audio thread, where a browser allows that (https, or the host's own machine): what it makes
// is heard next, so there is nothing to take back when the time line changes. It has no clock: the page tells it.

import { Engine } from "./speaker-engine.js";

const TELL_EVERY_FRAMES = 4800;

class Speaker extends AudioWorkletProcessor {
  constructor() {
    super();
    this.engine = new Engine(sampleRate);
    this.next = 0;
    this.tell = 0;
    this.underruns = 0;
    this.port.onmessage = ({ data }) => {
      if (data.course) this.engine.follow(data.course);
      if (data.line) this.engine.setLine(data.line);
      if (data.add) this.engine.sounds.add(data.add.id, data.add.index, data.add.samples);
      if (data.drop) this.engine.sounds.drop(data.drop.id, data.drop.index);
    };
  }

  process(_inputs, [[left, right]]) {
    // The context's frames go on where the audio thread was too late, so they tell nothing of that; a jump is a restart.
    const broken = this.next !== 0 && this.next !== currentFrame;
    if (broken && this.engine.sounding) this.underruns++;
    this.engine.render(currentFrame, left, right ?? new Float32Array(left.length), broken);
    this.next = currentFrame + left.length;
    if (currentFrame >= this.tell) {
      this.tell = currentFrame + TELL_EVERY_FRAMES;
      const { state, starvedFrames, servo, plans } = this.engine;
      this.port.postMessage({
        state, starvedFrames, underruns: this.underruns, errorNs: servo.errorNs, correction: servo.correction,
        steps: servo.steps, plan: plans.at(-1) ?? null,
      });
    }
    return true;
  }
}

registerProcessor("musicsyncd-speaker", Speaker);
