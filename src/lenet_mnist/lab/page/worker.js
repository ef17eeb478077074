// The worker: holds the engine and the networks, trains them in step, and tells the page what it sees.
//
// From the page: load, begin, reset, run, pause, watch, draw, test, weights. To the page: loaded, progress, drawn, tested,
// weights, failed.
"use strict";

const SLICE = 25; // ms of work, after which messages of the page are answered
const BETWEEN = 80; // ms between two reports: at most 12 a second
const BETWEEN_PROBES = 1000; // ms
const FOLDS = 5;

let lab = null; // { engine, classNames, levels, train, val, test }
let trainings = [];
let [experiment, runs] = [0, 0]; // their numbers, so that the page knows old reports
let goal = null; // while it trains: whether that is done, as a function
let watched = { picture: null, probe: false };

let isLooping = false;
let busy = Promise.resolve(); // until a count on the test images is done, whose weights are not those in training

// Let messages of the page be answered. By messages to itself: timers of a tab in the background are slowed down.
const { port1, port2 } = new MessageChannel();
const waiting = [];
port1.onmessage = () => waiting.shift()();
const breath = () => new Promise((resume) => (waiting.push(resume), port2.postMessage(null)));

async function unzipped(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The data of a training: all training images, or some of each class, or of these all folds but one.
function dataOf({ trainImages, fold }) {
  const { train, val, classNames } = lab;
  if ((trainImages ?? train.count) >= train.count && fold === null) return lab;
  const byClass = Array.from(train.labels, (_, k) => k).sort((a, b) => train.labels[a] - train.labels[b] || a - b);
  const share = Math.min(trainImages ?? train.count, train.count) / train.count;
  const chosen = byClass.filter((_, k) => Math.floor((k + 1) * share) > Math.floor(k * share));
  if (fold === null) return { train: train.part(chosen), val, classNames };
  const [others, own] = [(_, k) => k % FOLDS !== fold, (_, k) => k % FOLDS === fold].map((kept) => chosen.filter(kept));
  return { train: train.part(others), val: train.part(own), classNames };
}

function tellAll() {
  for (const training of trainings) Object.assign(training, { toldSteps: 0, toldEpochs: 0 });
  report();
}

// The networks that have made the fewest updates make the next one, so that all go in step.
function round() {
  const active = trainings.filter(({ ended }) => !ended);
  const least = Math.min(...active.map(({ step }) => step));
  for (const training of active) if (training.step === least) training.advance();
  return active.length > 0;
}

async function run() {
  if (isLooping) return;
  isLooping = true;
  let told = performance.now();
  while (goal) {
    const until = performance.now() + SLICE;
    while (goal && performance.now() < until) if (!round() || goal()) goal = null;
    if (performance.now() - told > BETWEEN) {
      report();
      told = performance.now();
    }
    await breath();
  }
  isLooping = false;
  report();
}

// Probe all networks; while they train, the one that has waited longest.
function probe() {
  const stalest = trainings.reduce((a, b) => (a.probedAt <= b.probedAt ? a : b));
  if (!goal) for (const training of trainings) training.probe();
  else if (performance.now() - stalest.probedAt > BETWEEN_PROBES) stalest.probe();
}

function report() {
  if (watched.probe) probe();
  const networks = trainings.map((training) => {
    const { network, step, epoch, rate, ended, perEpoch, units, toldSteps, toldEpochs } = training;
    const [steps, epochs] = [training.steps.slice(toldSteps), training.epochs.slice(toldEpochs)];
    Object.assign(training, { toldSteps: training.steps.length, toldEpochs: training.epochs.length });
    const layers = watched.picture && network.layers(watched.picture, lab.levels);
    const kernels = network.weights.slice(0, 156);
    return { step, epoch, rate, ended, perEpoch, units, steps, epochs, layers, kernels };
  });
  postMessage({ type: "progress", id: experiment, number: runs, isRunning: goal !== null, networks });
}

// Do `action` with the weights of the best epoch, which are those that count; before the first, with what there is.
async function withKept({ network, best }, action) {
  const now = network.weights.slice();
  if (best) network.weights.set(best.weights);
  try {
    return await action();
  } finally {
    network.weights.set(now);
  }
}

async function countTest() {
  const results = [];
  for (const training of trainings) {
    const parts = training.network.evaluation(lab.test);
    results.push(await withKept(training, async () => {
      for (;;) {
        const { done, value } = parts.next();
        if (done) return value;
        await breath();
      }
    }));
  }
  postMessage({ type: "tested", results });
}

const answers = {
  async load({ wasm, images, labels, levels, counts, classNames }) {
    const engine = await openEngine(bytesOf(wasm));
    const [pixels, classes] = [await unzipped(images), await unzipped(labels)];
    lab = { engine, classNames, levels: engine.keep(bytesOf(levels)) };
    let from = 0;
    for (const [name, count] of Object.entries(counts)) {
      const to = from + count;
      const part = [pixels.subarray(from * PIXELS, to * PIXELS), classes.subarray(from, to)];
      lab[name] = new ImageSet(engine, ...part, lab.levels);
      from = to;
    }
    postMessage({ type: "loaded", pixels, labels: classes }, [pixels.buffer]);
  },
  begin({ settings, id }) {
    [goal, experiment] = [null, id];
    for (const training of trainings.splice(0)) {
      training.release();
      const { train, val } = training.data;
      for (const set of [train, val]) if (set !== lab.train && set !== lab.val) set.release();
    }
    for (const each of settings) trainings.push(new Training(lab.engine, dataOf(each), each));
    tellAll();
  },
  reset() {
    goal = null;
    for (const training of trainings) training.restart();
    tellAll();
  },
  run({ until, number }) {
    runs = number;
    const { step, epochs } = trainings.find(({ ended }) => !ended) ?? trainings[0];
    const target = { step: step + 1, epoch: epochs.length + 1, end: Infinity }[until];
    const reached = ({ step, epochs }) => (until === "step" ? step : epochs.length) >= target;
    goal = () => trainings.every((each) => each.ended || (!each.evaluation && reached(each)));
    run();
  },
  pause() {
    goal = null;
  },
  watch(what) {
    watched = what;
    if (!goal && trainings.length) report();
  },
  draw({ grey, isFile }) {
    postMessage({ type: "drawn", pixels: lab.engine.prepare(grey), isFile });
  },
  test() {
    goal = null;
    return (busy = countTest());
  },
  async weights({ number }) {
    const training = trainings[number];
    const weights = await withKept(training, () => training.network.weights.slice());
    postMessage({ type: "weights", number, weights, epoch: training.best?.epoch ?? 0 });
  },
};

onmessage = async ({ data: { type, ...rest } }) => {
  try {
    if (type !== "pause") await busy.catch(() => {}); // whose own call has told it
    await answers[type](rest);
  } catch (error) {
    goal = null;
    postMessage({ type: "failed", noMemory: error instanceof RangeError, message: String(error?.message ?? error) });
  }
};
