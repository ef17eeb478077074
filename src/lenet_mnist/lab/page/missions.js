// What the answers of the thirteen missions of missions.yaml are made of: for each a function of `lab`, which returns what
// stands for the answer's {words}, from what was measured in this page, or nothing before.
"use strict";

const reached = (view, loss) => view.means.findIndex((value) => value < loss) + 1; // update, counted from 1; 0: never
const timesSmaller = ({ steps: [{ norms }] }) => short(norms[4] / norms[0]); // the output's gradient by C1's
const sizeOf = (weights) => Math.hypot(...weights);
const counts = () => Object.fromEntries(Object.entries(DATA.counts).map(([name, count]) => [name, n(count)]));
const vals = ({ views }) => (views.every(({ epochs }) => epochs.length) ? views.map(({ epochs }) => epochs.at(-1).val) : null);

const MEASURES = [
  ({ perClass }) => {
    const all = perClass.map(([train]) => train);
    const [least, most] = [Math.min(...all), Math.max(...all)];
    const [rarest, commonest] = [least, most].map((count) => DATA.classNames[all.indexOf(count)]);
    return { least: n(least), most: n(most), rarest, commonest, ...counts() };
  },
  (lab) => {
    const [val] = vals(lab) ?? [];
    return val && { step: n(lab.views[0].step), accuracy: share(val.accuracy), ...counts() };
  },
  () => {
    const { C1, C3, C5, F6, output } = Object.fromEntries(DATA.layers.map((row) => [row.name, row.num_parameters]));
    return { features: n(C1 + C3), classifier: n(C5 + F6 + output), c5: n(C5) };
  },
  ({ views: [{ kernels, firstKernels, step }] }) => {
    if (!step) return null;
    const [first, now] = [firstKernels, kernels].map((weights) => weights.slice(0, NUM_KERNEL_WEIGHTS));
    const change = sizeOf(now.map((weight, k) => weight - first[k])) / sizeOf(first);
    return { change: share(change, 0), count: kernels.length };
  },
  ({ views: [a, b] }) => {
    if (!b || a.step < 20) return null;
    const [lossA, lossB] = [a, b].map(({ means }) => short(means.at(-1)));
    return { a: timesSmaller(a), b: timesSmaller(b), step: n(a.step), lossA, lossB };
  },
  ({ views: [a, b], memory }) => {
    if (b && a.step > 20) memory.race = [1, 0.1].map((loss) => [reached(a, loss), reached(b, loss)]);
    else if (a.step > 20) memory.dead = [a.units.at(-1)[1], a.means.at(-1)];
    if (!memory.race) return null;
    const { never, times, dead, notYet } = currentMission();
    const [[relu1, sigmoid1], [relu2, sigmoid2]] = memory.race.map(([relu, sigmoid]) => {
      const count = sigmoid ? n(sigmoid) : words(never);
      if (!relu) return [words(never), count];
      return [n(relu), sigmoid ? words(times, { count, ratio: short(sigmoid / relu) }) : count];
    });
    const [part, loss] = memory.dead ?? [];
    const said = memory.dead ? words(dead, { share: share(part, 0), loss: short(loss) }) : words(notYet);
    return { relu1, sigmoid1, relu2, sigmoid2, dead: said };
  },
  ({ views: [{ layers }] }) => {
    if (!layers) return null;
    const same = layers.s2.filter((value, k) => {
      const first = 56 * Math.floor(k / 14) + 2 * (k % 14); // of the four in C1, whose rows are 28 long
      const most = Math.max(...[0, 1, 28, 29].map((step) => layers.c1[first + step]));
      return Math.abs(value - most) < 1e-4; // added up in another order
    });
    return { same: n(same.length), all: n(layers.s2.length) };
  },
  (lab) => {
    const [val] = vals(lab) ?? [];
    if (!val) return null;
    const { confidences, accuracy } = val;
    const least = Math.min(...confidences);
    return { accuracy: share(accuracy), sure: share(mean(confidences)), least: share(least, 0) };
  },
  ({ views: [{ epochs }] }) => {
    if (epochs.length < 10) return null;
    const losses = epochs.map(({ val }) => val.loss);
    const least = Math.min(...losses);
    const { loss, accuracy } = epochs.at(-1).train;
    const now = { last: short(losses.at(-1)), trainLoss: short(loss), trainAccuracy: share(accuracy) };
    return { least: short(least), epoch: losses.indexOf(least) + 1, ...now };
  },
  ({ perClass }) => {
    const { train, val } = DATA.counts;
    const apart = perClass.map(([ofTrain, ofVal]) => Math.abs(ofTrain / train - ofVal / val));
    const most = Math.max(...apart);
    return { most: share(most, 2), name: DATA.classNames[apart.indexOf(most)], ...counts() };
  },
  (lab) => {
    const shares = vals(lab)?.map(({ accuracy }) => accuracy) ?? [];
    if (shares.length < 5) return null;
    return { least: share(Math.min(...shares)), most: share(Math.max(...shares)), mean: share(mean(shares)) };
  },
  ({ views: [view], memory, stage }) => {
    if (view.advice) (memory.said ??= [])[stage] = [view.advice.direction, view.means.at(-1)];
    const mission = currentMission();
    const curves = memory.said?.map(([direction, loss], k) => {
      return `${words(mission.stages[k].label)}: ${words(mission[direction] ?? mission.other)} (loss ${short(loss)}).`;
    });
    return curves && { curves: curves.filter(Boolean).join(" ") };
  },
  (lab) => {
    const losses = vals(lab)?.map(({ loss }) => loss) ?? [];
    const rates = lab.settings.map(({ rate }) => rate);
    if (losses.length < 6) return null;
    const least = Math.min(...losses);
    const good = rates.filter((_, k) => losses[k] < 2 * least).map(short).join(", ");
    return { best: short(rates[losses.indexOf(least)]), least: short(least), good };
  },
];
