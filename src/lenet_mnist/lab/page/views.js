// What the page shows of the networks: curves, layers, kernels, gradients, units, the confusion matrix.
"use strict";

const LAYER_NAMES = ["C1", "C3", "C5", "F6", "output"];
const NUM_KERNEL_WEIGHTS = 150; // of C1, before its 6 biases
const letter = (k) => "ABCDEFGH"[k];

// From blue through white to orange.
const signed = (share) => {
  const [blue, orange] = [Math.max(0, 1 - 2 * share), Math.max(0, 2 * share - 1)];
  return [255 - 255 * blue - 20 * orange, 255 - 130 * blue - 150 * orange, 255 - 70 * blue - 255 * orange];
};

// A short name of a network, from what it is trained with.
function nameOf({ activation, rate, fold }, k) {
  return fold === null ? `${letter(k)}: ${activation === "relu" ? "ReLU" : activation}, ${short(rate)}` : `fold ${fold + 1}`;
}

// An empty view of a network; `merge` adds what the worker tells.
const emptyView = () => ({ step: 0, steps: [], epochs: [], means: [], sum: 0, units: [], advice: null });

function merge(view, { steps, epochs, ...rest }) {
  Object.assign(view, rest);
  view.firstKernels ??= view.kernels;
  const span = Math.max(10, Math.round(view.perEpoch / 8)); // updates that the running mean is of
  for (const row of steps) {
    view.steps.push(row);
    const count = view.steps.length;
    view.sum += row.loss - (count > span ? view.steps[count - span - 1].loss : 0);
    view.means.push(view.sum / Math.min(count, span));
  }
  view.epochs.push(...epochs);
}

function table(head, rows, parent) {
  parent.replaceChildren();
  const whole = make("table", { parent });
  const first = make("tr", { parent: make("thead", { parent: whole }) });
  for (const text of head) make("th", { text, scope: "col", parent: first });
  const body = make("tbody", { parent: whole });
  for (const [name, ...cells] of rows) {
    const row = make("tr", { parent: body });
    make("th", { text: name, scope: "row", parent: row });
    for (const text of cells) make("td", { text, parent: row });
  }
}

const pixelsOf = (index) => lab.pixels.subarray(index * IMAGE_SIZE ** 2, (index + 1) * IMAGE_SIZE ** 2);

function addDigit(parent, index, caption) {
  const figure = make("figure", { parent });
  drawDigit(make("canvas", { className: "pixels", role: "img", ariaLabel: caption, parent: figure }), pixelsOf(index));
  make("figcaption", { text: caption, parent: figure });
}

// ---- the data

function showSamples() {
  byId("samples").replaceChildren();
  DATA.classNames.slice(0, 20).forEach((name, label) => {
    const places = Array.from({ length: DATA.counts.train }, (_, k) => k).filter((k) => lab.labels[k] === label);
    if (places.length) addDigit(byId("samples"), places[Math.floor(Math.random() * places.length)], name);
  });
}

function showTables() {
  const rows = lab.perClass.map((counts, k) => [DATA.classNames[k], ...counts.map(n)]);
  table(words("partsHead"), [...rows, [words("sum"), ...Object.values(DATA.counts).map(n)]], byId("counts"));
  const costs = ({ num_parameters, num_multiply_adds }) => [num_parameters, num_multiply_adds];
  const layers = DATA.layers.map((row) => [row.name, row.output_shape.join(" × "), ...costs(row).map(n)]);
  const sums = [0, 1].map((k) => n(DATA.layers.reduce((sum, row) => sum + costs(row)[k], 0)));
  table(words("tableHead"), [...layers, [words("sum"), "", ...sums]], byId("table").querySelector(".table"));
}

// ---- curves

function drawCurves() {
  const { views, settings } = lab;
  const isBegun = views.some(({ step }) => step > 0);
  byId("nothing").hidden = isBegun;
  byId("curves").hidden = !isBegun;
  if (!isBegun) return;
  showLegend(byId("legend"), [...settings.map(nameOf), ...(lab.before ? [words("before")] : [])]);
  const total = Math.max(...views.map((view, k) => settings[k].epochs * (view.perEpoch ?? 1)));
  const x = { low: 0, high: total, label: words("update"), text: n };
  const losses = lab.before ? [{ ys: lab.before, k: settings.length, width: 1.5 }] : [];
  views.forEach(({ steps }, k) => {
    if (views.length <= 2) losses.push({ ys: steps.map(({ loss }) => loss), k, width: 1, faint: true });
  });
  views.forEach(({ means, epochs }, k) => {
    const [xs, ys] = [epochs.map(({ step }) => step), epochs.map(({ val }) => val.loss)];
    losses.push({ ys: means, k }, { xs, ys, k, dots: true, width: 0 });
  });
  const highest = Math.max(0.1, ...views.map(({ means }) => largest(bucketed(means, 200))));
  const high = Math.max(highest * 1.1, views[0].step < 30 ? DATA.guessingLoss * 1.2 : 0);
  drawChart(byId("loss"), losses, x, { low: 0, high, text: short });
  byId("loss").ariaLabel = `Loss: ${views.map(({ means }, k) => `${letter(k)} ${short(means.at(-1) ?? NaN)}`).join(", ")}`;

  const accuracies = views.map(({ epochs }, k) => {
    return { xs: epochs.map(({ step }) => step), ys: epochs.map(({ val }) => val.accuracy), k, dots: true };
  });
  const least = Math.min(1, ...accuracies.flatMap(({ ys }) => ys));
  const low = [0.98, 0.95, 0.9, 0.8, 0.5, 0].find((bound) => bound <= least);
  drawChart(byId("accuracy"), accuracies, x, { low, high: 1, text: (value) => share(value, low >= 0.95 ? 1 : 0) });
  const last = accuracies.map(({ ys }, k) => `${letter(k)} ${ys.length ? share(ys.at(-1)) : words("none")}`);
  byId("accuracy").ariaLabel = `Accuracy: ${last.join(", ")}`;
  if (!byId("sweep").hidden) drawSweep(byId("sweep").querySelector("canvas"));
}

// The validation loss after the last epoch against the rate.
function drawSweep(canvas) {
  const done = lab.settings.map(({ rate }, k) => [rate, lab.views[k].epochs.at(-1)?.val.loss]).filter(([, loss]) => loss);
  const rates = lab.settings.map(({ rate }) => rate);
  const ends = { low: Math.min(...rates) / 1.5, high: Math.max(...rates) * 1.5, isLog: true };
  const series = [{ xs: done.map(([rate]) => rate), ys: done.map(([, loss]) => loss), k: 0, dots: true }];
  const y = { low: 0, high: DATA.guessingLoss * 1.1, text: short };
  drawChart(canvas, series, { ...ends, label: words("rateAxis"), text: short }, y);
  canvas.ariaLabel = done.map(([rate, loss]) => `${short(rate)}: ${short(loss)}`).join(", ") || words("none");
}

function showAdvice() {
  const texts = lab.views.flatMap((view, k) => {
    if (!view.ended || lab.views.length > 2 || lab.settings[k].fold !== null) return [];
    view.advice ??= advise(view, lab.settings[k], DATA.advice, DATA.guessingLoss);
    if (!view.advice) return [];
    const { verdict, value } = view.advice;
    return [`${nameOf(lab.settings[k], k)}. ${words(`advice.${verdict}`, { x: short(value) })}`];
  });
  if (byId("advice").textContent === texts.join("")) return;
  byId("advice").replaceChildren(...texts.map((text) => make("p", { text, className: "advice" })));
}

// ---- inside the networks

const shown = new WeakMap(); // of a place in the page: the functions that show each network there, and of what experiment

// Show each network in `parent`, by functions that `fill` makes with a block for it: anew for another experiment or language.
function showEach(parent, fill, common) {
  const id = `${lab.experiment} ${language}`;
  if (shown.get(parent)?.id !== id) {
    parent.replaceChildren();
    const shows = lab.settings.map((settings, k) => {
      const block = make("div", { parent });
      make("h3", { text: nameOf(settings, k), parent: block });
      return fill(block, settings);
    });
    shown.set(parent, { id, shows });
  }
  lab.views.forEach((view, k) => shown.get(parent).shows[k](view, common));
}

function showNetworks() {
  showEach(byId("networks"), (block, { activation }) => {
    const show = layersIn(block, activation, DATA.classNames);
    return ({ layers }) => {
      const { label, pixels } = lab.digit;
      const truth = label === null ? words("own") : words("isClass", { name: DATA.classNames[label] });
      if (layers) show(pixels, layers, (name, share) => `${words("says", { name, share })} (${truth})`);
    };
  });
}

function showKernels() {
  showEach(byId("kernels").querySelector(".charts"), (block) => {
    const canvas = make("canvas", { className: "pixels", role: "img", parent: block });
    canvas.ariaLabel = words("maps", { k: 6, name: "C1: w" });
    return ({ kernels }) => {
      if (!kernels) return;
      const weights = kernels.slice(0, NUM_KERNEL_WEIGHTS);
      const most = largest(weights.map(Math.abs)) || 1;
      drawMaps(canvas, weights, [6, 5, 6], [-most, most], signed);
    };
  });
}

function showGradients() {
  const curveOf = ({ steps }, layer) => steps.map(({ norms }) => norms[layer]);
  const curves = lab.views.flatMap((view) => LAYER_NAMES.map((_, layer) => bucketed(curveOf(view, layer), 300)));
  const norms = curves.flat().filter((norm) => norm > 0);
  const [low, high] = [Math.max(1e-9, Math.min(1e-3, ...norms)), Math.max(1, ...norms)];
  const ends = { low: 10 ** Math.floor(Math.log10(low)), high: 10 ** Math.ceil(Math.log10(high)), isLog: true };
  const fill = (block) => {
    block.className = "chart";
    showLegend(make("ul", { className: "legend", parent: block }), LAYER_NAMES);
    const canvas = make("canvas", { role: "img", parent: block });
    return (view, y) => {
      const series = LAYER_NAMES.map((_, k) => ({ ys: curveOf(view, k), k, width: 1.5 }));
      const x = { low: 0, high: Math.max(20, view.steps.length), label: words("update"), text: n };
      drawChart(canvas, series, x, y);
      const now = LAYER_NAMES.map((name, k) => `${name} ${short(view.steps.at(-1)?.norms[k] ?? NaN)}`);
      canvas.ariaLabel = `${words("norms")}: ${now.join(", ")}`;
    };
  };
  const text = (value) => (value >= 0.001 ? short(value) : value.toExponential(0));
  showEach(byId("gradients").querySelector(".charts"), fill, { ...ends, text });
}

function showUnits() {
  showEach(byId("units").querySelector(".charts"), (block) => {
    const bars = [words("flat"), words("dead")].map((title) => {
      make("h3", { text: title, parent: block });
      return barsIn(block, LAYER_NAMES.slice(0, 4));
    });
    return ({ units }) => {
      if (units.length) bars.forEach((show, which) => show(units.map((shares) => shares[which]), -1));
    };
  });
}

// ---- the confusion matrix

function showMatrix() {
  const place = byId("matrix");
  const done = `${lab.experiment} ${language} ${lab.views.map(({ epochs }) => epochs.length)}`;
  if (place.dataset.done === done) return;
  place.dataset.done = done;
  const focused = document.activeElement?.dataset?.cell;
  place.replaceChildren();
  if (lab.views.length <= 2 && lab.settings.every(({ fold }) => fold === null)) lab.views.forEach(addMatrix);
  if (!place.children.length) make("p", { text: words("noMatrix"), className: "small", parent: place });
  place.querySelector(`[data-cell="${focused}"]`)?.focus();
}

function addMatrix({ epochs }, k) {
  if (!epochs.length) return;
  const { counts, classNames: names } = DATA;
  const { answers, confidences } = epochs.at(-1).val;
  const cells = names.map(() => names.map(() => []));
  answers.forEach((answer, i) => cells[lab.labels[counts.train + i]][answer].push(i));
  const place = make("div", { className: "table", parent: byId("matrix") });
  make("h3", { text: nameOf(lab.settings[k], k), parent: place });
  const holder = make("div", { className: "matrix", parent: place });
  table([words("partsHead")[0], ...names], names.map((name) => [name, ...names.map(() => "")]), holder);
  cells.forEach((row, truth) => row.forEach((images, answer) => {
    if (!images.length) return;
    const ariaLabel = words("cell", { count: images.length, truth: names[truth], answer: names[answer] });
    const parent = holder.querySelector("tbody").rows[truth].cells[answer + 1];
    const className = truth === answer ? "right" : "wrong";
    const button = make("button", { type: "button", text: images.length, className, ariaLabel, parent });
    button.dataset.cell = `${k} ${truth} ${answer}`;
    button.onclick = () => {
      byId("cell").replaceChildren(make("p", { text: ariaLabel }));
      const digits = make("div", { className: "digits", parent: byId("cell") });
      for (const i of images.slice(0, 60)) addDigit(digits, counts.train + i, share(confidences[i], 0));
    };
  }));
}
