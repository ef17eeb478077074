// The engine in WebAssembly, as values of JavaScript: sets of images, and networks that can be trained.
"use strict";

const PIXELS = 28 * 28;
const ACTIVATIONS = ["sigmoid", "tanh", "relu"];
const LAYERS = ["c1", "c3", "c5", "f6", "output"]; // that have weights
const CAPACITY = 256; // images of the largest batch
// What `lab_layers` gives, one behind the other: [name, maps, side].
const OUTPUTS = [["c1", 6, 28], ["s2", 6, 14], ["c3", 16, 10], ["s4", 16, 5], ["c5", 120, 1], ["f6", 84, 1]];

// Return the engine; `bytes` is lab.wasm. It has one memory, which may grow: views of it are made when they are needed.
async function openEngine(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const wasm = instance.exports;
  wasm._initialize();
  return {
    wasm,
    floats: (place, count) => new Float32Array(wasm.memory.buffer, place, count),
    words: (place, count) => new Uint32Array(wasm.memory.buffer, place, count),
    allocate(bytes) {
      const place = wasm.lab_allocate(bytes);
      if (place === 0) throw new RangeError("the browser refuses the memory for these images");
      return place;
    },
    keep(array) {
      const [place, { buffer, byteOffset, byteLength }] = [this.allocate(array.byteLength), array];
      new Uint8Array(wasm.memory.buffer, place, byteLength).set(new Uint8Array(buffer, byteOffset, byteLength));
      return place;
    },
  };
}

// Images in the engine's memory. `levels` are the 256 values that pixels have for the network.
class ImageSet {
  constructor(engine, pixels, labels, levels) {
    this.engine = engine;
    this.count = labels.length;
    this.labels = labels;
    this.pixels = engine.keep(pixels);
    this.classes = engine.keep(labels);
    this.levels = levels;
    this.all = engine.keep(Uint32Array.from(labels, (_, k) => k));
  }

  get bytes() {
    return new Uint8Array(this.engine.wasm.memory.buffer, this.pixels, this.count * PIXELS);
  }

  release() {
    for (const place of [this.pixels, this.classes, this.all]) this.engine.wasm.lab_release(place);
  }
}

class Network {
  constructor(engine, activation, numClasses) {
    this.engine = engine;
    this.wasm = engine.wasm;
    this.activation = activation;
    this.numClasses = numClasses;
    this.place = this.wasm.lab_network(ACTIVATIONS.indexOf(activation), numClasses, CAPACITY);
    if (this.place === 0) throw new RangeError("the browser refuses the memory for a network");
    this.sums = engine.allocate(8);
    this.norms = engine.allocate(4 * LAYERS.length + 4);
    this.numWeights = this.wasm.lab_num_weights(this.place);
  }

  begin(seed) {
    this.wasm.lab_begin(this.place, seed);
  }

  get weights() {
    return this.engine.floats(this.wasm.lab_weights(this.place), this.numWeights);
  }

  // The norm of the gradient of each layer's weights, and that of the whole gradient.
  gradientNorms() {
    this.wasm.lab_norms(this.place, this.norms);
    return Array.from(this.engine.floats(this.norms, LAYERS.length + 1));
  }

  // Of the chosen images of a set: make the gradient of their loss; return the mean loss, and how many are right.
  backward(set, chosen, count, labelSmoothing = 0) {
    this.#choose(set, chosen, count);
    this.wasm.lab_backward(this.place, count, labelSmoothing, this.sums);
    const [loss, right] = this.engine.floats(this.sums, 2);
    return { loss, right };
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

  // The same at once.
  evaluate(set) {
    const parts = this.evaluation(set);
    for (;;) {
      const { done, value } = parts.next();
      if (done) return value;
    }
  }

  // Of the chosen images: [name, share of flat values, share of dead units] of each layer that has an activation.
  probe(set, chosen, count) {
    const sizes = [6 * 14 * 14, 16 * 5 * 5, 120, 84];
    const units = [6, 16, 120, 84];
    const flat = (this.flat ??= this.engine.allocate(4 * 4 + 226));
    this.engine.words(flat, 4).fill(0);
    const alive = () => new Uint8Array(this.wasm.memory.buffer, flat + 16, 226);
    alive().fill(0);
    for (let from = 0; from < count; from += CAPACITY) {
      const some = Math.min(CAPACITY, count - from);
      this.#choose(set, chosen + 4 * from, some);
      this.wasm.lab_forward(this.place, some);
      this.wasm.lab_probe(this.place, some, flat, flat + 16);
    }
    let first = 0;
    return ["C1", "C3", "C5", "F6"].map((name, k) => {
      const living = alive().subarray(first, (first += units[k])).reduce((sum, x) => sum + x, 0);
      return [name, this.engine.words(flat, 4)[k] / sizes[k] / count, 1 - living / units[k]];
    });
  }

  #choose(set, chosen, count) {
    this.wasm.lab_choose(this.place, set.pixels, set.classes, set.levels, chosen, count);
  }

  sgd(rate, { momentum, nesterov, weightDecay }) {
    this.wasm.lab_sgd(this.place, rate, momentum, nesterov ? 1 : 0, weightDecay);
  }

  adam(rate, { weightDecay, optimizer }) {
    this.wasm.lab_adam(this.place, rate, weightDecay, optimizer === "adamw" ? 1 : 0);
  }

  // What each layer makes of one image, whose 28 x 28 pixels go from 0 to 255: {c1: {maps, side, values}, ..., logits}.
  layers(pixels, levels) {
    const own = Uint8Array.from(pixels); // they may be a view of the memory, which may grow now
    const image = (this.image ??= this.engine.allocate(4 * PIXELS));
    const sizes = OUTPUTS.map(([, maps, side]) => maps * side * side);
    const total = sizes.reduce((sum, size) => sum + size, 0) + this.numClasses;
    const place = (this.outputs ??= this.engine.allocate(4 * total));
    const table = this.engine.floats(levels, 256);
    this.engine.floats(image, PIXELS).set(Float32Array.from(own, (pixel) => table[pixel]));
    this.wasm.lab_layers(this.place, image, place);
    const values = this.engine.floats(place, total).slice();
    let offset = 0;
    const found = {};
    OUTPUTS.forEach(([name, maps, side], k) => {
      found[name] = { maps, side, values: values.subarray(offset, (offset += sizes[k])) };
    });
    found.logits = values.subarray(offset);
    return found;
  }

  release() {
    for (const place of [this.place, this.sums, this.norms, this.flat, this.image, this.outputs]) {
      if (place) this.wasm.lab_release(place);
    }
  }
}
