// The engine in WebAssembly, as values of JavaScript: pictures, sets of images, and networks that can be trained.
"use strict";

const PIXELS = 28 * 28;
const ACTIVATIONS = ["sigmoid", "tanh", "relu"];
const NUM_NORMS = 6; // of the gradients of C1, C3, C5, F6 and the output, and of all together
const CAPACITY = 256; // images of the largest batch, as in lab.c
// What `lab_layers` gives, one behind the other: [name, maps, side].
const OUTPUTS = [["c1", 6, 28], ["s2", 6, 14], ["c3", 16, 10], ["s4", 16, 5], ["c5", 120, 1], ["f6", 84, 1]];
const NUM_OUTPUTS = OUTPUTS.reduce((sum, [, maps, side]) => sum + maps * side * side, 0);
// Of the layers that have an activation: units, and values.
const PROBED_LAYERS = [[6, 6 * 14 * 14], [16, 16 * 5 * 5], [120, 120], [84, 84]];
const [SEEN_AT, STEPS_BYTES] = [3232, 4016]; // Steps in picture.c

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return bytes;
}

// Return the engine; `bytes` is lab.wasm. It has one memory, which may grow: views of it are made when they are needed.
async function openEngine(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const wasm = instance.exports;
  wasm._initialize();
  return {
    wasm,
    bytes: (place, count) => new Uint8Array(wasm.memory.buffer, place, count),
    floats: (place, count) => new Float32Array(wasm.memory.buffer, place, count),
    words: (place, count) => new Uint32Array(wasm.memory.buffer, place, count),
    allocate(bytes) {
      const place = wasm.lab_allocate(bytes);
      if (place === 0) throw new RangeError("the browser refuses the memory for these images");
      return place;
    },
    keep(array) {
      const { buffer, byteOffset, byteLength } = array;
      const place = this.allocate(byteLength);
      this.bytes(place, byteLength).set(new Uint8Array(buffer, byteOffset, byteLength));
      return place;
    },
    // Of a grey picture, 0 .. 255, the 28 x 28 pixels that networks see; null if there is no ink in it.
    prepare({ height, width, values }) {
      const size = 8 * height * width;
      const places = [this.keep(values), this.allocate(size), this.allocate(size), this.allocate(STEPS_BYTES)];
      const [grey, ...steps] = places;
      const found = wasm.lab_prepare(grey, height, width, ...steps);
      const seen = this.bytes(steps[2] + SEEN_AT, PIXELS).slice();
      for (const place of places) wasm.lab_release(place);
      if (found < 0) throw new RangeError("the browser refuses the memory for this picture");
      return found ? seen : null;
    },
  };
}

// Images in the engine's memory. `levels` are the 256 values that pixels have for the network.
class ImageSet {
  constructor(engine, pixels, labels, levels) {
    Object.assign(this, { engine, labels, levels, count: labels.length });
    this.pixels = engine.keep(pixels);
    this.classes = engine.keep(labels);
    this.all = engine.keep(Uint32Array.from(labels, (_, k) => k));
  }

  // The images at some places, as a set of their own.
  part(places) {
    const bytes = this.engine.bytes(this.pixels, this.count * PIXELS);
    const pixels = new Uint8Array(places.length * PIXELS);
    places.forEach((place, k) => pixels.set(bytes.subarray(place * PIXELS, (place + 1) * PIXELS), k * PIXELS));
    return new ImageSet(this.engine, pixels, Uint8Array.from(places, (place) => this.labels[place]), this.levels);
  }

  release() {
    for (const place of [this.pixels, this.classes, this.all]) this.engine.wasm.lab_release(place);
  }
}

class Network {
  constructor(engine, activation, numClasses) {
    Object.assign(this, { engine, wasm: engine.wasm, numClasses });
    this.place = this.wasm.lab_network(ACTIVATIONS.indexOf(activation), numClasses);
    if (this.place === 0) throw new RangeError("the browser refuses the memory for a network");
    this.spare = engine.allocate(4 * (PIXELS + NUM_OUTPUTS + numClasses)); // for all that goes in and out
  }

  begin(seed) {
    this.wasm.lab_begin(this.place, seed);
  }

  get weights() {
    return this.engine.floats(this.wasm.lab_weights(this.place), this.wasm.lab_num_weights(this.place));
  }

  // The norm of the gradient of each layer's weights, and that of the whole gradient.
  gradientNorms() {
    this.wasm.lab_norms(this.place, this.spare);
    return Array.from(this.engine.floats(this.spare, NUM_NORMS));
  }

  // Of the chosen images of a set: make the gradient of their loss; return the mean loss, and how many are right.
  backward(set, chosen, count, labelSmoothing) {
    this.#choose(set, chosen, count);
    this.wasm.lab_backward(this.place, count, labelSmoothing, this.spare);
    const [loss, right] = this.engine.floats(this.spare, 2);
    return { loss, right };
  }

  update(rate, { optimizer, momentum, nesterov, weightDecay }) {
    if (optimizer === "sgd") this.wasm.lab_sgd(this.place, rate, momentum, nesterov, weightDecay);
    else this.wasm.lab_adam(this.place, rate, weightDecay, optimizer === "adamw");
  }

  // Of a whole set, 256 images at a time: the mean loss, the share that is right, each image's answer and the
  // probability that softmax gives it.
  *evaluation(set) {
    let [loss, right] = [0, 0];
    const [answers, confidences] = [new Uint8Array(set.count), new Float32Array(set.count)];
    for (let from = 0; from < set.count; from += CAPACITY) {
      const count = Math.min(CAPACITY, set.count - from);
      this.#choose(set, set.all + 4 * from, count);
      right += this.wasm.lab_forward(this.place, count);
      loss += this.engine.floats(this.wasm.lab_losses(this.place), count).reduce((sum, x) => sum + x, 0);
      const logits = this.engine.floats(this.wasm.lab_logits(this.place), count * this.numClasses);
      for (let i = 0; i < count; i++) {
        const row = logits.subarray(i * this.numClasses, (i + 1) * this.numClasses);
        const best = row.indexOf(Math.max(...row));
        answers[from + i] = Math.max(best, 0); // none is the largest if one is not a number
        confidences[from + i] = 1 / row.reduce((sum, logit) => sum + Math.exp(logit - row[best]), 0);
      }
      yield;
    }
    return { loss: loss / set.count, accuracy: right / set.count, answers, confidences };
  }

  // Of the chosen images: [share of flat values, share of dead units] of each layer that has an activation.
  probe(set, chosen, count) {
    const flat = this.spare;
    const alive = flat + 4 * PROBED_LAYERS.length;
    this.engine.floats(flat, PIXELS).fill(0);
    for (let from = 0; from < count; from += CAPACITY) {
      const some = Math.min(CAPACITY, count - from);
      this.#choose(set, chosen + 4 * from, some);
      this.wasm.lab_forward(this.place, some);
      this.wasm.lab_probe(this.place, some, flat, alive);
    }
    let first = alive;
    return PROBED_LAYERS.map(([units, values], k) => {
      const living = this.engine.bytes(first, units).reduce((sum, x) => sum + x, 0);
      first += units;
      return [this.engine.words(flat, k + 1)[k] / values / count, 1 - living / units];
    });
  }

  // What each layer makes of one image, whose 28 x 28 pixels go from 0 to 255: {c1: values, ..., f6: values, logits}.
  layers(pixels, levels) {
    const table = this.engine.floats(levels, 256);
    this.engine.floats(this.spare, PIXELS).set(Float32Array.from(pixels, (pixel) => table[pixel]));
    this.wasm.lab_layers(this.place, this.spare, this.spare + 4 * PIXELS);
    const values = this.engine.floats(this.spare + 4 * PIXELS, NUM_OUTPUTS + this.numClasses).slice();
    const found = {};
    let end = 0;
    for (const [name, maps, side] of OUTPUTS) found[name] = values.subarray(end, (end += maps * side * side));
    return { ...found, logits: values.subarray(end) };
  }

  release() {
    for (const place of [this.place, this.spare]) this.wasm.lab_release(place);
  }

  #choose(set, chosen, count) {
    this.wasm.lab_choose(this.place, set.pixels, set.classes, set.levels, chosen, count);
  }
}
