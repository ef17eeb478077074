// The lecture's rules on the learning rate, read off a loss curve: analysis/advice.py, rule by rule, with its limits.
"use strict";

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

// Return { verdict, direction, value }, or null of fewer than five updates. `view` is a network as the page has it.
function advise(view, settings, limits, guessing) {
  const { steps, epochs, ended } = view;
  if (ended === "diverged") return { verdict: "diverged", direction: "lower" };
  if (steps.length < 5) return null;
  const numSteps = settings.epochs * view.perEpoch;
  const between = (begin, end) => {
    const [first, last] = [begin * numSteps, end * numSteps];
    const inside = epochs.filter(({ step }) => first < step && step < last + view.perEpoch / 2);
    if (epochs.length >= limits.least_epochs && inside.length) return part(inside.map(({ train }) => train.loss), true);
    return part(steps.filter(({ step }) => first < step && step <= last).map(({ loss }) => loss), false);
  };
  const fifths = [0, 1, 2, 3, 4].map((k) => between(k / 5, (k + 1) / 5)).filter((each) => each !== null);
  const ofEpochs = epochs.map(({ train }) => part([train.loss], true));
  const parts = epochs.length >= limits.least_epochs ? ofEpochs : fifths;
  const losses = parts.map(({ loss }) => loss);
  const last = losses.at(-1);
  const highest = Math.max(...losses);
  if (highest > limits.thrown_up * guessing) return { verdict: "thrownUp", direction: "lower", value: highest };
  const rise = largestRise(parts.filter(({ loss }) => loss > limits.negligible * guessing), limits.sure);
  const isRectifier = settings.activation === "relu";
  const cutOff = isRectifier ? limits.cut_off_rectifier : limits.cut_off;
  if (last > limits.guessing * guessing) {
    const live = liveness(steps.slice(-Math.max(5, Math.floor(steps.length / 3))));
    if (live < cutOff) return { verdict: isRectifier ? "dead" : "saturated", direction: "lower", value: last };
    if (rise > limits.rise) return { verdict: "doesNotFall", direction: "lower", value: last };
    if (settings.activation === "sigmoid") return { verdict: "stays", direction: "raise", value: 1 / live };
    return { verdict: "slowly", direction: "raise", value: losses[0] - last };
  }
  const resting = steps.filter(({ loss }) => Math.abs(loss - guessing) < limits.near_guessing * guessing);
  const isLong = resting.length >= limits.long_rest * steps.length;
  if (!isRectifier && isLong && liveness(resting) < limits.cut_off) {
    return { verdict: "saturated", direction: "lower", value: last };
  }
  if (rise > limits.rise) return { verdict: "oscillates", direction: "lower", value: rise };
  const [middle, end] = [between(0.4, 0.6), between(0.8, 1)];
  if (steps.at(-1).rate > limits.annealed_to * settings.rate || middle === null || end === null) {
    return { verdict: "falls", direction: "unknown" };
  }
  const gain = middle.loss / Math.max(end.loss, 1e-12);
  if (gain >= limits.slow) return { verdict: "fine", direction: "keep", value: gain };
  const chance = limits.sure * Math.hypot(middle.error, limits.slow * end.error);
  const isUnsure = middle.loss + chance >= limits.slow * end.loss;
  if (epochs.length < 2 || isUnsure || rise > limits.uneven) return { verdict: "falls", direction: "unknown" };
  return { verdict: "slowly", direction: "raise", value: losses[0] - last };
}

// A part of the training: its mean loss, and the standard error of that, 0 where all of it is known.
function part(losses, isWhole) {
  if (!losses.length) return null;
  const middle = mean(losses);
  const variance = losses.reduce((sum, loss) => sum + (loss - middle) ** 2, 0) / (losses.length - 1);
  const error = losses.length > 1 ? Math.sqrt(variance / losses.length) : Infinity;
  return { loss: middle, error: isWhole ? 0 : error };
}

// The largest ratio of a part's loss to that of an earlier part, where the difference is not chance.
function largestRise(parts, sure) {
  let rise = 0;
  parts.forEach((later, k) => {
    for (const earlier of parts.slice(0, k)) {
      const chance = sure * Math.hypot(earlier.error, later.error);
      if (earlier.loss + chance < later.loss) rise = Math.max(rise, later.loss / earlier.loss);
    }
  });
  return rise;
}

// The gradient's size at C1 as a share of the whole gradient's.
const liveness = (steps) => median(steps.map(({ norms }) => norms[0] / Math.max(norms[5], 1e-30)));

// The 95 % interval of a share, as analysis/intervals.py has it.
function wilson(share, count) {
  const z2 = 1.959964 ** 2 / count;
  const [middle, half] = [share + z2 / 2, Math.sqrt(z2 * (share * (1 - share) + z2 / 4))];
  return [(middle - half) / (1 + z2), (middle + half) / (1 + z2)];
}
