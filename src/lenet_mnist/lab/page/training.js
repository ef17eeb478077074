// A training, as training/loop.py and training/schedule.py have it: update by update, epoch by epoch.
"use strict";

const PLATEAU = { factor: 0.5, patience: 2 };
const PROBED = 512; // images, as in training/probe.py
const PURPOSE = { order: 4, probe: 7 }; // as in randomness.py

// What the peak rate is multiplied by at update `step`, counted from 0, of `numSteps`: rate_factor in schedule.py.
function rateFactor(schedule, warmup, step, numSteps) {
  const halfCosine = (start, end, share) => end + ((start - end) * (1 + Math.cos(Math.PI * share))) / 2;
  const numWarmup = warmup * numSteps;
  if (schedule === "one-cycle") {
    if (step < numWarmup) return halfCosine(1 / 25, 1, step / numWarmup);
    return halfCosine(1, 1 / 250000, (step - numWarmup) / Math.max(numSteps - numWarmup, 1));
  }
  if (step < numWarmup) return (step + 1) / (numWarmup + 1);
  const done = (step - numWarmup) / (numSteps - numWarmup);
  if (schedule === "linear") return 1 - done;
  if (schedule === "cosine") return halfCosine(1, 0, done);
  return 1;
}

// `data` is { train, val, classNames }; the settings are those of exchange.py. `steps` has a row for each update, `epochs`
// one for each epoch; `ended` says why, once it has.
class Training {
  constructor(engine, data, settings) {
    Object.assign(this, { engine, data, settings });
    this.network = new Network(engine, settings.activation, data.classNames.length);
    const { count } = data.train;
    [this.order, this.probed, this.spare] = [1, 1, 6].map((words) => engine.allocate(4 * words * count));
    engine.wasm.lab_order(settings.seed, PURPOSE.probe, 0, count, this.probed, this.spare);
    this.perEpoch = Math.ceil(count / settings.batchSize);
    this.restart();
  }

  // Back to the starting weights of the seed.
  restart() {
    Object.assign(this, { step: 0, epoch: 1, batch: 0, steps: [], epochs: [], ended: null, best: null });
    Object.assign(this, { evaluation: null, probedStep: null, spent: 0 }); // `spent`: milliseconds of this epoch
    Object.assign(this, { plateau: { factor: 1, best: Infinity, resting: 0 }, seen: { loss: 0, right: 0 } });
    this.network.begin(this.settings.seed);
    this.probe();
  }

  get rate() {
    const { rate, schedule, warmup, epochs } = this.settings;
    return rate * rateFactor(schedule, warmup, this.step, epochs * this.perEpoch) * this.plateau.factor;
  }

  // Make a piece of some milliseconds: an update, or at the end of an epoch a part of the evaluation.
  advance() {
    const before = performance.now();
    if (this.evaluation) this.#evaluate();
    else if (!this.ended) this.#update();
    this.spent += performance.now() - before;
  }

  // Look at the units, unless they are known already.
  probe() {
    this.probedAt = performance.now();
    if (this.probedStep === this.step) return;
    this.probedStep = this.step;
    const count = Math.min(PROBED, this.data.train.count);
    this.units = this.network.probe(this.data.train, this.probed, count);
  }

  #update() {
    const { settings, network, engine, data, rate } = this;
    const { count } = data.train;
    if (this.batch === 0) {
      engine.wasm.lab_order(settings.seed, PURPOSE.order, this.epoch, count, this.order, this.spare);
    }
    const from = this.batch * settings.batchSize;
    const size = Math.min(settings.batchSize, count - from);
    const { loss, right } = network.backward(data.train, this.order + 4 * from, size, settings.labelSmoothing);
    const norms = network.gradientNorms();
    if (!Number.isFinite(loss) || !norms.every(Number.isFinite)) {
      this.ended = "diverged";
      return;
    }
    network.update(rate, settings);
    this.step += 1;
    this.seen.loss += loss * size;
    this.seen.right += right;
    this.steps.push({ step: this.step, epoch: this.epoch, rate, loss, norms });
    this.batch += 1;
    if (this.batch === this.perEpoch) this.evaluation = network.evaluation(data.val);
  }

  #evaluate() {
    const { done, value: val } = this.evaluation.next();
    if (!done) return;
    this.evaluation = null;
    if (!Number.isFinite(val.loss)) {
      this.ended = "diverged";
      return;
    }
    const { epoch, step, seen, spent } = this;
    const { count } = this.data.train;
    const train = { loss: seen.loss / count, accuracy: seen.right / count };
    this.epochs.push({ epoch, step, rate: this.steps.at(-1).rate, train, val, seconds: spent / 1000 });
    if (!this.best || val.loss < this.best.loss) {
      this.best = { epoch, loss: val.loss, weights: this.network.weights.slice() };
    }
    if (this.settings.schedule === "plateau") this.#rest(val.loss);
    Object.assign(this, { epoch: epoch + 1, batch: 0, seen: { loss: 0, right: 0 }, spent: 0 });
    if (this.epoch > this.settings.epochs) this.ended = "all epochs done";
  }

  #rest(loss) {
    const { plateau } = this;
    if (loss < plateau.best) Object.assign(plateau, { best: loss, resting: 0 });
    else if (plateau.resting < PLATEAU.patience) plateau.resting += 1;
    else Object.assign(plateau, { factor: plateau.factor * PLATEAU.factor, resting: 0 });
  }

  release() {
    this.network.release();
    for (const place of [this.order, this.probed, this.spare]) this.engine.wasm.lab_release(place);
  }
}
