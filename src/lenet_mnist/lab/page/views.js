// What the page shows of the networks: curves, layers, kernels, gradients, units, the confusion matrix.
"use strict";

const byId = (id) => document.getElementById(id);
const LAYER_NAMES = ["C1", "C3", "C5", "F6", "output"];
// [key, columns, pixels of the screen for one of the map]
const SHOWN = [["input", 1, 2.5], ["c1", 2, 1.6], ["s2", 2, 2.4], ["c3", 4, 2.7], ["s4", 4, 4], ["c5", 8, 4], ["f6", 7, 4]];
const signed = (share) => {
  const [blue, orange] = [Math.max(0, 1 - 2 * share), Math.max(0, 2 * share - 1)];
  return [255 - 255 * blue - 20 * orange, 255 - 130 * blue - 150 * orange, 255 - 70 * blue - 255 * orange];
};

function make(tag, { text, className, parent, ...rest } = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  parent?.append(element);
  return Object.assign(element, rest);
}

const letter = (k) => "ABCDEFGH"[k];

// A short name of a network, from what it is trained with.
function nameOf(settings, k) {
  const { activation, rate, fold } = settings;
  if (fold !== null) return `fold ${fold + 1}`;
  return `${letter(k)}: ${activation === "relu" ? "ReLU" : activation}, ${short(rate)}`;
}

// An empty view of a network; `merge` adds what the worker tells.
const emptyView = () => ({ step: 0, steps: [], epochs: [], means: [], sum: 0, probe: [], answers: null, advice: null });

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
  for (const row of epochs) view.epochs.push(row);
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

function digitCanvas(index, parent, caption) {
  const figure = make("figure", { parent });
  const canvas = make("canvas", { className: "pixels", role: "img", ariaLabel: caption, parent: figure });
  drawMaps(canvas, { channels: 1, size: IMAGE_SIZE, values: pixelsOf(index) }, [0, 255], 1);
  make("figcaption", { text: caption, parent: figure });
}

const pixelsOf = (index) => lab.pixels.subarray(index * IMAGE_SIZE ** 2, (index + 1) * IMAGE_SIZE ** 2);

// ---- curves

function drawCurves() {
  const { views, settings, guessing } = lab;
  byId("nothing").hidden = views.some(({ step }) => step > 0);
  byId("curves").hidden = !byId("nothing").hidden;
  if (byId("curves").hidden) return;
  const names = settings.map((each, k) => nameOf(each, k));
  if (lab.before) names.push(words().before);
  const legend = byId("legend");
  if (legend.textContent !== names.join("")) {
    legend.replaceChildren(...names.map((text, k) => {
      const item = make("li");
      make("i", { className: `k${k < settings.length ? k : 4}`, parent: item });
      item.append(text);
      return item;
    }));
  }
  const total = Math.max(...views.map((view, k) => settings[k].epochs * (view.perEpoch ?? 1)));
  const x = { low: 0, high: total, label: words().update, text: n };
  const numbers = (values) => values.map((_, k) => k + 1);
  const highest = Math.max(0.1, ...views.flatMap(({ means }) => bucketed(means, 200)[1]));
  const series = lab.before ? [{ xs: numbers(lab.before), ys: lab.before, colour: colour("c4"), width: 1.5 }] : [];
  if (views.length <= 2) {
    views.forEach(({ steps }, k) => {
      const losses = steps.map(({ loss }) => loss);
      series.push({ xs: numbers(losses), ys: losses, colour: networkColour(k), width: 1, faint: true });
    });
  }
  views.forEach(({ means, epochs }, k) => {
    series.push({ xs: numbers(means), ys: means, colour: networkColour(k) });
    const dots = { xs: epochs.map(({ step }) => step), ys: epochs.map(({ val }) => val.loss), dots: true, width: 0.001 };
    series.push({ ...dots, colour: networkColour(k) });
  });
  const y = { low: 0, high: Math.max(highest * 1.1, views[0].step < 30 ? guessing * 1.2 : 0), text: short };
  drawChart(byId("loss"), series, x, y);
  const told = views.map(({ means }, k) => `${letter(k)} ${short(means.at(-1) ?? NaN)}`).join(", ");
  byId("loss").ariaLabel = words().chart("Loss", told, "");

  const shares = views.map(({ epochs }) => epochs.map(({ val }) => val.accuracy));
  const least = Math.min(1, ...shares.flat());
  const accuracies = views.map(({ epochs }, k) => ({
    xs: epochs.map(({ step }) => step), ys: shares[k], colour: networkColour(k), dots: true,
  }));
  const low = [0.98, 0.95, 0.9, 0.8, 0.5, 0].find((bound) => bound <= least) ?? 0;
  drawChart(byId("accuracy"), accuracies, x, { low, high: 1, text: (value) => share(value, low >= 0.95 ? 1 : 0) });
  const last = views.map(({ epochs }, k) => `${letter(k)} ${epochs.length ? share(epochs.at(-1).val.accuracy) : words().none}`);
  byId("accuracy").ariaLabel = words().chart("Accuracy", last.join(", "), "");
  if (!byId("sweep").hidden) drawSweep();
}

// The validation loss after the last epoch against the rate.
function drawSweep() {
  const canvas = byId("sweep").querySelector("canvas");
  const tried = lab.views.flatMap(({ epochs }, k) => (epochs.length ? [[lab.settings[k].rate, epochs.at(-1).val.loss]] : []));
  const rates = lab.settings.map(({ rate }) => rate);
  const x = { low: Math.min(...rates) / 1.5, high: Math.max(...rates) * 1.5, isLog: true, label: words().rate, text: short };
  const [xs, ys] = [tried.map(([rate]) => rate), tried.map(([, loss]) => loss)];
  drawChart(canvas, [{ xs, ys, colour: colour("accent"), dots: true }], x, { low: 0, high: lab.guessing * 1.1, text: short });
  canvas.ariaLabel = tried.map(([rate, loss]) => `${short(rate)}: ${short(loss)}`).join(", ") || words().none;
}

function showAdvice() {
  const place = byId("advice");
  const texts = lab.views.flatMap((view, k) => {
    if (!view.ended || lab.views.length > 2 || lab.settings[k].fold !== null) return [];
    view.advice ??= advise(view, lab.settings[k], lab.data.advice, lab.guessing);
    if (!view.advice) return [];
    const said = words().advice[view.advice.verdict];
    return [`${nameOf(lab.settings[k], k)}. ${typeof said === "string" ? said : said(short(view.advice.value))}`];
  });
  if (place.textContent === texts.join("")) return;
  place.replaceChildren(...texts.map((text) => make("p", { text, className: "advice" })));
}

// ---- inside the networks

// Of each network one block of `parent`, made anew for a new experiment; `fill` puts a new one's contents into it.
function blocks(parent, key, fill) {
  const id = `${lab.experiment} ${language}`;
  if (parent.dataset.made !== id) {
    parent.dataset.made = id;
    parent.replaceChildren();
    lab.views.forEach((view, k) => {
      const block = make("div", { parent });
      make("h3", { text: nameOf(lab.settings[k], k), parent: block });
      (lab.parts[key] ??= [])[k] = fill(block, k);
    });
  }
  return lab.parts[key];
}

function showNetworks() {
  const parts = blocks(byId("networks"), "networks", (block) => {
    const list = make("ol", { className: "layers", role: "list", parent: block });
    const canvases = SHOWN.map(([key]) => {
      const item = make("li", { parent: list });
      const canvas = make("canvas", { className: "pixels", role: "img", parent: item });
      make("div", { text: key === "input" ? words().input : key.toUpperCase(), parent: item });
      make("div", { className: "small", parent: item });
      return canvas;
    });
    const item = make("li", { parent: list });
    const bars = make("ol", { className: "bars", role: "list", parent: item });
    const rows = lab.data.classNames.map((name) => barRow(name, bars));
    return { canvases, rows, said: make("p", { parent: item }) };
  });
  lab.views.forEach(({ layers }, k) => {
    if (!layers) return;
    const { canvases, rows, said } = parts[k];
    const range = SCALES[lab.settings[k].activation].range;
    SHOWN.forEach(([key, columns, scale], place) => {
      const { maps, side, values } = key === "input" ? { maps: 1, side: IMAGE_SIZE, values: lab.digit.pixels } : layers[key];
      const canvas = canvases[place];
      drawMaps(canvas, { channels: maps, size: side, values }, key === "input" ? [0, 255] : range(values), columns);
      if (canvas.ariaLabel) return; // the rest stays as it is
      canvas.style.width = `${canvas.width * scale}px`;
      canvas.ariaLabel = words().maps(key === "input" ? words().input : key.toUpperCase(), maps);
      canvas.parentElement.lastChild.textContent = side > 1 ? `${maps > 1 ? `${maps} × ` : ""}${side} × ${side}` : maps;
    });
    const probabilities = softmax(layers.logits);
    const first = probabilities.indexOf(Math.max(...probabilities));
    rows.forEach((row, place) => row(probabilities[place], place === first));
    const truth = lab.digit.label === null ? words().own : words().isClass(lab.data.classNames[lab.digit.label]);
    setText(said, `${words().says(lab.data.classNames[first], perCent(probabilities[first]))} (${truth})`);
  });
}

function showKernels() {
  const parts = blocks(byId("kernels").querySelector(".charts"), "kernels", (block) => {
    return make("canvas", { className: "pixels", role: "img", parent: block });
  });
  lab.views.forEach(({ kernels }, k) => {
    if (!kernels) return;
    const weights = kernels.slice(0, 150);
    const most = weights.reduce((max, weight) => Math.max(max, Math.abs(weight)), 1e-9);
    drawMaps(parts[k], { channels: 6, size: 5, values: weights }, [-most, most], 6, signed);
    parts[k].style.width = "min(100%, 22rem)";
    parts[k].ariaLabel = words().maps("C1: w", 6);
  });
}

function showGradients() {
  const parts = blocks(byId("gradients").querySelector(".charts"), "gradients", (block) => {
    block.className = "chart";
    const legend = make("ul", { className: "legend", parent: block });
    LAYER_NAMES.forEach((name, k) => {
      const item = make("li", { parent: legend });
      make("i", { className: `k${k}`, parent: item });
      item.append(name);
    });
    return make("canvas", { role: "img", parent: block });
  });
  const curves = lab.views.map(({ steps }) => LAYER_NAMES.map((_, layer) => bucketed(steps.map(({ norms }) => norms[layer]), 300)));
  const values = curves.flat().flatMap(([, means]) => means).filter((value) => value > 0);
  const [low, high] = [Math.max(1e-9, Math.min(1e-3, ...values)), Math.max(1, ...values)];
  const ends = { low: 10 ** Math.floor(Math.log10(low)), high: 10 ** Math.ceil(Math.log10(high)) };
  lab.views.forEach(({ steps }, k) => {
    const series = curves[k].map(([xs, ys], layer) => ({ xs, ys, colour: networkColour(layer), width: 1.5 }));
    const x = { low: 0, high: Math.max(20, steps.length), label: words().update, text: n };
    drawChart(parts[k], series, x, { ...ends, isLog: true, text: (value) => (value >= 0.001 ? short(value) : value.toExponential(0)) });
    const now = LAYER_NAMES.map((name, layer) => `${name} ${short(steps.at(-1)?.norms[layer] ?? NaN)}`);
    parts[k].ariaLabel = words().chart(words().norms, now.join(", "), "");
  });
}

function showUnits() {
  const parts = blocks(byId("units").querySelector(".charts"), "units", (block) => {
    return [words().flat, words().dead].map((title) => {
      make("h3", { text: title, parent: block });
      const bars = make("ol", { className: "bars", role: "list", parent: block });
      return LAYER_NAMES.slice(0, 4).map((name) => barRow(name, bars));
    });
  });
  lab.views.forEach(({ probe }, k) => {
    probe.forEach(([, flat, dead], layer) => [flat, dead].forEach((value, which) => parts[k][which][layer](value, false)));
  });
}

// ---- the confusion matrix

function showMatrix() {
  const isShown = lab.views.length <= 2 && lab.settings[0].fold === null && lab.views[0].epochs.length > 0;
  if (!isShown) return void byId("matrix").replaceChildren(make("p", { text: words().noMatrix, className: "small" }));
  const done = `${lab.experiment} ${language} ${lab.views.map(({ epochs }) => epochs.length)}`;
  if (byId("matrix").dataset.done === done && byId("matrix").querySelector("table")) return;
  byId("matrix").dataset.done = done;
  const names = lab.data.classNames;
  const { train, val } = lab.data.counts;
  const focused = document.activeElement?.dataset?.cell;
  byId("matrix").replaceChildren();
  lab.views.forEach((view, k) => {
    if (!view.epochs.length) return;
    const { answers, confidences } = view.epochs.at(-1).val;
    const cells = names.map(() => names.map(() => []));
    for (let i = 0; i < val; i++) cells[lab.labels[train + i]][answers[i]].push(i);
    const place = make("div", { className: "table", parent: byId("matrix") });
    make("h3", { text: nameOf(lab.settings[k], k), parent: place });
    const holder = make("div", { parent: place });
    table([words().partsHead[0], ...names], cells.map((row, truth) => [names[truth], ...row.map(() => "")]), holder);
    holder.firstChild.className = "matrix";
    cells.forEach((row, truth) => row.forEach((images, answer) => {
      const cell = holder.querySelector("tbody").rows[truth].cells[answer + 1];
      if (!images.length) return;
      const ariaLabel = words().cell(images.length, names[truth], names[answer]);
      const className = truth === answer ? "right" : "wrong";
      const button = make("button", { type: "button", text: images.length, className, ariaLabel, parent: cell });
      button.dataset.cell = `${k} ${truth} ${answer}`;
      if (button.dataset.cell === focused) button.focus();
      button.onclick = () => {
        byId("cell").replaceChildren(make("p", { text: ariaLabel }));
        const digits = make("div", { className: "digits", parent: byId("cell") });
        for (const i of images.slice(0, 60)) digitCanvas(train + i, digits, share(confidences[i], 0));
      };
    }));
  });
}
