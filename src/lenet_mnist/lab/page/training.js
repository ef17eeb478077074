// A training, as training/loop.py and training/schedule.py have it: update by update, epoch by epoch.
"use strict";

const PLATEAU = { factor: 0.5, patience: 2 };

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

// Settings: activation, seed, optimizer, rate, momentum, nesterov, weightDecay, batchSize, epochs, schedule, warmup,
// labelSmoothing. `steps` has a row for each update, `epochs` one for each epoch; `ended` says why, once it has.
class Training {
  constructor(engine, data, settings) {
    Object.assign(this, { engine, data, settings });
    this.network = new Network(engine, settings.activation, data.classNames.length);
    const count = data.train.count;
    this.order = engine.allocate(4 * count);
    this.spare = engine.allocate(24 * count);
    this.perEpoch = Math.ceil(count / settings.batchSize);
    this.restart();
  }

  // Back to the starting weights of the seed.
  restart() {
    Object.assign(this, { step: 0, epoch: 1, batch: 0, steps: [], epochs: [], ended: null, best: null });
    Object.assign(this, { evaluation: null, spent: 0 }); // `spent`: milliseconds of this epoch
    Object.assign(this, { plateau: { factor: 1, best: Infinity, resting: 0 }, seen: { loss: 0, right: 0 } });
    this.network.begin(this.settings.seed);
  }

  get rate() {
    const { rate, schedule, warmup, epochs } = this.settings;
    return rate * rateFactor(schedule, warmup, this.step, epochs * this.perEpoch) * this.plateau.factor;
  }

  // Make one update, and at the end of an epoch the evaluation; return the row of the update, or null after the end.
  update() {
    const row = this.advance();
    while (this.evaluation) this.advance();
    return row;
  }

  // The same in pieces, each of some milliseconds: an update, or a part of the evaluation at the end of an epoch.
  advance() {
    const before = performance.now();
    const row = this.ended ? null : this.#piece();
    this.spent += performance.now() - before;
    return row;
  }

  #piece() {
    if (this.evaluation) {
      const { done, value } = this.evaluation.next();
      if (done) this.#endEpoch(value);
      return null;
    }
    const { settings, network, engine, data } = this;
    const { count } = data.train;
    if (this.batch === 0) engine.wasm.lab_order(settings.seed, this.epoch, count, this.order, this.spare);
    const size = Math.min(settings.batchSize, count - this.batch * settings.batchSize);
    const rate = this.rate;
    const chosen = this.order + 4 * this.batch * settings.batchSize;
    const { loss, right } = network.backward(data.train, chosen, size, settings.labelSmoothing);
    const norms = network.gradientNorms();
    if (!Number.isFinite(loss) || !norms.every(Number.isFinite)) {
      this.ended = "diverged";
      return null;
    }
    if (settings.optimizer === "sgd") network.sgd(rate, settings);
    else network.adam(rate, settings);
    this.step += 1;
    this.seen.loss += loss * size;
    this.seen.right += right;
    const row = { step: this.step, epoch: this.epoch, rate, loss, norms };
    this.steps.push(row);
    this.batch += 1;
    if (this.batch === this.perEpoch) this.evaluation = network.evaluation(this.data.val);
    return row;
  }

  #endEpoch(val) {
    const { count } = this.data.train;
    this.evaluation = null;
    if (!Number.isFinite(val.loss)) {
      this.ended = "diverged";
      return;
    }
    const train = { loss: this.seen.loss / count, accuracy: this.seen.right / count };
    const { epoch, step, spent } = this;
    const row = { epoch, step, rate: this.steps.at(-1).rate, train, val, seconds: spent / 1000 };
    this.epochs.push(row);
    if (!this.best || val.loss < this.best.loss) {
      this.best = { epoch: this.epoch, loss: val.loss, weights: this.network.weights.slice() };
    }
    if (this.settings.schedule === "plateau") this.#rest(val.loss);
    Object.assign(this, { epoch: this.epoch + 1, batch: 0, seen: { loss: 0, right: 0 }, spent: 0 });
    if (this.epoch > this.settings.epochs) this.ended = "all epochs done";
  }

  #rest(loss) {
    const plateau = this.plateau;
    if (loss < plateau.best) Object.assign(plateau, { best: loss, resting: 0 });
    else if (plateau.resting < PLATEAU.patience) plateau.resting += 1;
    else Object.assign(plateau, { factor: plateau.factor * PLATEAU.factor, resting: 0 });
  }

  release() {
    this.network.release();
    for (const place of [this.order, this.spare]) this.engine.wasm.lab_release(place);
  }
}
