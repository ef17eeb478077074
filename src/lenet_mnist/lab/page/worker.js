// The worker: holds the engine and the networks, trains them in step, and tells the page what it sees.
//
// From the page: load, begin, run, pause, reset, watch, test, weights. To the page: loaded, progress, tested, weights, failed.
"use strict";

const SLICE = 25; // ms of work, after which messages of the page are answered
const BETWEEN = 80; // ms between two reports: at most 12 a second
const BETWEEN_PROBES = 1000; // ms
const PROBED = 512; // images, as in training/probe.py
const FOLDS = 5;

let lab = null; // { engine, classNames, train, val, test }
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

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return bytes;
}

async function unzipped(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The data of a training: all training images, or some of each class, or of these all folds but one.
function dataOf({ trainImages, fold }) {
  const { train, val, classNames, levels } = lab;
  if ((trainImages === null || trainImages >= train.count) && fold === null) return lab;
  const byClass = Array.from(train.labels, (_, k) => k).sort((a, b) => train.labels[a] - train.labels[b] || a - b);
  const share = Math.min(trainImages ?? train.count, train.count) / train.count;
  const chosen = byClass.filter((_, k) => Math.floor((k + 1) * share) > Math.floor(k * share));
  const part = (kept) => {
    const places = chosen.filter((_, k) => kept(k % FOLDS));
    const pixels = new Uint8Array(places.length * PIXELS);
    places.forEach((place, k) => pixels.set(train.bytes.subarray(place * PIXELS, (place + 1) * PIXELS), k * PIXELS));
    return new ImageSet(lab.engine, pixels, Uint8Array.from(places, (place) => train.labels[place]), levels);
  };
  if (fold === null) return { train: part(() => true), val, classNames };
  return { train: part((k) => k !== fold), val: part((k) => k === fold), classNames };
}

function begin(settings, id) {
  experiment = id;
  const old = trainings;
  trainings = [];
  for (const { training, data } of old) {
    training.release();
    for (const set of [data.train, data.val]) if (set !== lab.train && set !== lab.val) set.release();
  }
  for (const each of settings) {
    const data = dataOf(each);
    const training = new Training(lab.engine, data, each);
    const { count } = data.train;
    const images = lab.engine.allocate(4 * count);
    lab.engine.wasm.lab_probe_order(each.seed, count, images, training.spare);
    trainings.push({ training, data, probed: { images, count: Math.min(PROBED, count), at: -Infinity } });
  }
  tellAll();
}

function tellAll() {
  for (const each of trainings) Object.assign(each, { toldSteps: 0, toldEpochs: 0 });
  trainings.forEach(probe);
  report();
}

// The networks that have made the fewest updates make the next one, so that all go in step.
function round() {
  const active = trainings.map(({ training }) => training).filter(({ ended }) => !ended);
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
      probeOne();
      report();
      told = performance.now();
    }
    await breath();
  }
  isLooping = false;
  probeOne();
  report();
}

function probe(each) {
  each.probed.at = performance.now();
  each.probe = each.training.network.probe(each.data.train, each.probed.images, each.probed.count);
}

function probeOne() {
  if (!watched.probe) return;
  if (!goal) return trainings.forEach(probe);
  const stalest = trainings.reduce((a, b) => (a.probed.at <= b.probed.at ? a : b));
  if (performance.now() - stalest.probed.at > BETWEEN_PROBES) probe(stalest);
}

function report() {
  const networks = trainings.map((each) => {
    const { training } = each;
    const { network, step, epoch, rate, ended, perEpoch, data } = training;
    const [steps, epochs] = [training.steps.slice(each.toldSteps), training.epochs.slice(each.toldEpochs)];
    Object.assign(each, { toldSteps: training.steps.length, toldEpochs: training.epochs.length });
    const layers = watched.picture && network.layers(watched.picture, lab.levels);
    const kernels = network.weights.slice(0, 156);
    const counts = { train: data.train.count, val: data.val.count };
    return { step, epoch, rate, ended, perEpoch, counts, steps, epochs, layers, kernels, probe: each.probe };
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

async function evaluateInPieces(network, set) {
  const parts = network.evaluation(set);
  for (;;) {
    const { done, value } = parts.next();
    if (done) return value;
    await breath();
  }
}

async function countTest() {
  const results = [];
  for (const { training } of trainings) {
    const { network, best, step } = training;
    const result = await withKept(training, () => evaluateInPieces(network, lab.test));
    results.push({ ...result, epoch: best?.epoch ?? null, step });
  }
  postMessage({ type: "tested", results });
}

const answers = {
  async load({ wasm, images, labels, levels, counts, classNames }) {
    const engine = await openEngine(bytesOf(wasm));
    const [pixels, classes] = [await unzipped(images), await unzipped(labels)];
    lab = { engine, classNames, levels: engine.keep(bytesOf(levels)) };
    let from = 0;
    for (const name of ["train", "val", "test"]) {
      const to = from + counts[name];
      const part = [pixels.subarray(from * PIXELS, to * PIXELS), classes.subarray(from, to)];
      lab[name] = new ImageSet(engine, ...part, lab.levels);
      from = to;
    }
    postMessage({ type: "loaded", pixels, labels: classes }, [pixels.buffer]);
  },
  begin({ settings, id }) {
    goal = null;
    begin(settings, id);
  },
  reset() {
    goal = null;
    for (const { training } of trainings) training.restart();
    tellAll();
  },
  run({ until, number }) {
    runs = number;
    const [{ training }] = trainings;
    const [steps, epochs] = [training.step + 1, training.epochs.length + 1];
    const all = (reached) => trainings.every(({ training: each }) => each.ended || (!each.evaluation && reached(each)));
    if (until === "step") goal = () => all((each) => each.step >= steps);
    else if (until === "epoch") goal = () => all((each) => each.epochs.length >= epochs);
    else goal = () => false;
    run();
  },
  pause() {
    goal = null;
  },
  watch(what) {
    Object.assign(watched, what);
    if (goal || !trainings.length) return;
    probeOne();
    report();
  },
  test() {
    goal = null;
    return (busy = countTest());
  },
  async weights({ number }) {
    const { training } = trainings[number];
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
