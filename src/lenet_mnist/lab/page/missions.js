// Thirteen missions, one for each point of the lecture; mission_texts.js has their words. `rooms` are opened, `stages` say
// what is trained: settings beside those of the recipe of their activation; `measure` returns what the answer is made of,
// from what was measured in this page, or nothing before.
"use strict";

const reached = (view, loss) => view.means.findIndex((value) => value < loss) + 1; // update, counted from 1; 0: never
const times = (norms) => norms[4] / norms[0]; // the output's gradient by C1's
const hasEpoch = (lab) => lab.views.every((view) => view.epochs.length > 0);
const lastVal = (view) => view.epochs.at(-1).val;
const RATES = [0.0006, 0.0025, 0.01, 0.04, 0.16, 0.64];
const stage = (en, it, ...networks) => ({ label: { en, it }, networks });

const MISSIONS = [
  {
    rooms: ["data-room"],
    stages: [],
    measure: ({ perClass, data }) => {
      const counts = perClass.map(([train]) => train);
      const name = (count) => data.classNames[counts.indexOf(count)];
      const [least, most] = [Math.min(...counts), Math.max(...counts)];
      return { least, most, rarest: name(least), commonest: name(most), ...data.counts };
    },
  },
  {
    rooms: ["architecture", "data-room", "training", "performance"],
    stages: [stage("All four steps, two epochs", "Tutti e quattro i passi, due epoche", { activation: "relu", epochs: 2 })],
    measure: (lab) => {
      const [view] = lab.views;
      return hasEpoch(lab) && { step: view.step, accuracy: lastVal(view).accuracy, ...lab.data.counts };
    },
  },
  {
    rooms: ["architecture", "table"],
    stages: [],
    measure: ({ layerTable }) => {
      const [c1, , c3, , c5, f6, output] = layerTable.map((row) => row.weights);
      return { features: c1 + c3, classifier: c5 + f6 + output, c5 };
    },
  },
  {
    rooms: ["architecture", "kernels"],
    stages: [stage("Let kernels form", "Formare i kernel", { activation: "relu", epochs: 4 })],
    measure: ({ views: [{ kernels, firstKernels, step }] }) => {
      if (!step) return null;
      const size = (values) => Math.hypot(...values);
      const change = size(kernels.slice(0, 150).map((w, k) => w - firstKernels[k])) / size(firstKernels.slice(0, 150));
      return { change, count: kernels.length };
    },
  },
  {
    rooms: ["training", "gradients"],
    stages: [
      stage("sigmoid beside tanh, rate 0.02", "sigmoide accanto a tanh, rate 0,02",
        ...["sigmoid", "tanh"].map((activation) => ({ activation, rate: 0.02, schedule: "constant", warmup: 0, epochs: 3 }))),
    ],
    measure: ({ views: [a, b] }) => a?.step >= 20 && b && {
      a: times(a.steps[0].norms), b: times(b.steps[0].norms), step: a.step, lossA: a.means.at(-1), lossB: b.means.at(-1),
    },
  },
  {
    rooms: ["training", "units"],
    stages: [
      stage("The race: ReLU and sigmoid", "La gara: ReLU e sigmoide",
        ...["relu", "sigmoid"].map((activation) => ({ activation, epochs: 8 }))),
      stage("Dead units: ReLU, rate 0.4", "Neuroni spenti: ReLU, rate 0,4",
        { activation: "relu", rate: 0.4, schedule: "constant", epochs: 2 }),
    ],
    measure: ({ views: [a, b], memory }) => {
      if (b && a.step > 20) memory.race = [1, 0.1].map((loss) => [reached(a, loss), reached(b, loss)]);
      else if (a?.step > 20) memory.dead = [a.probe.at(-1)[2], a.means.at(-1)];
      return memory.race && memory;
    },
  },
  {
    rooms: ["architecture"],
    stages: [],
    measure: ({ views: [{ layers }] }) => {
      if (!layers) return null;
      const { c1, s2 } = layers;
      const same = s2.values.filter((value, k) => {
        const first = 56 * Math.floor(k / 14) + 2 * (k % 14); // of the four in C1, whose rows are 28 long
        return value === Math.max(...[0, 1, 28, 29].map((step) => c1.values[first + step]));
      });
      return { same: same.length, all: s2.values.length };
    },
  },
  {
    rooms: ["architecture"],
    stages: [stage("Train, then draw", "Addestrare, poi disegnare", { activation: "relu", epochs: 4 })],
    measure: (lab) => hasEpoch(lab) && (({ confidences, accuracy }) => ({
      accuracy, sure: confidences.reduce((sum, x) => sum + x, 0) / confidences.length, least: Math.min(...confidences),
    }))(lastVal(lab.views[0])),
  },
  {
    rooms: ["training", "performance"],
    stages: [
      stage("Only 500 images, 60 epochs", "Solo 500 immagini, 60 epoche",
        { activation: "relu", rate: 0.01, schedule: "constant", warmup: 0, weightDecay: 0, trainImages: 500, epochs: 60 }),
    ],
    measure: ({ views: [{ epochs }] }) => {
      if (epochs.length < 10) return null;
      const losses = epochs.map(({ val }) => val.loss);
      const least = Math.min(...losses);
      return { least, epoch: losses.indexOf(least) + 1, last: losses.at(-1), train: epochs.at(-1).train };
    },
  },
  {
    rooms: ["data-room"],
    stages: [],
    measure: ({ perClass, data: { counts, classNames } }) => {
      const sizes = Object.values(counts);
      const apart = perClass.map(([train, val]) => Math.abs(train / sizes[0] - val / sizes[1]));
      const most = Math.max(...apart);
      return { most, name: classNames[apart.indexOf(most)], ...counts };
    },
  },
  {
    rooms: ["training"],
    stages: [
      stage("Five folds of 1,000 images", "Cinque fold di 1.000 immagini",
        ...[0, 1, 2, 3, 4].map((fold) => ({ activation: "relu", batchSize: 32, trainImages: 1000, epochs: 12, fold }))),
    ],
    measure: (lab) => {
      if (lab.views.length < 5 || !hasEpoch(lab)) return null;
      const shares = lab.views.map((view) => lastVal(view).accuracy);
      return { least: Math.min(...shares), most: Math.max(...shares), mean: mean(shares) };
    },
  },
  {
    rooms: ["training"],
    stages: [
      stage("Falls slowly", "Decresce lentamente", { activation: "relu", rate: 0.0003, epochs: 5 }),
      stage("Does not fall", "Non decresce", { activation: "relu", rate: 0.4, schedule: "constant", epochs: 2 }),
      stage("Oscillates", "Oscilla", { activation: "tanh", rate: 1, epochs: 5 }),
    ],
    measure: ({ views: [view], memory, stage: k }) => {
      if (view.advice) (memory.said ??= [])[k] = [view.advice.direction, view.means.at(-1)];
      return memory.said && memory;
    },
  },
  {
    rooms: ["training", "sweep"],
    stages: [
      stage("Six rates, two epochs", "Sei learning rate, due epoche",
        ...RATES.map((rate) => ({ activation: "relu", rate, epochs: 2 }))),
    ],
    measure: (lab) => {
      if (lab.views.length < RATES.length || !hasEpoch(lab)) return null;
      const losses = lab.views.map((view) => lastVal(view).loss);
      const least = Math.min(...losses);
      return { best: RATES[losses.indexOf(least)], least, good: RATES.filter((_, k) => losses[k] < 2 * least) };
    },
  },
];
