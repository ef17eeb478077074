// The images: samples and counts of the data, and the digit that the networks are shown, chosen, drawn or from a file.
"use strict";

function showSamples() {
  const { classNames, counts } = lab.data;
  byId("samples").replaceChildren();
  classNames.slice(0, 20).forEach((name, label) => {
    const places = Array.from({ length: counts.train }, (_, k) => k).filter((k) => lab.labels[k] === label);
    if (places.length) digitCanvas(places[Math.floor(Math.random() * places.length)], byId("samples"), name);
  });
}

function showTables() {
  const rows = lab.perClass.map((counts, k) => [lab.data.classNames[k], ...counts.map(n)]);
  table(words().partsHead, [...rows, [words().sum, ...Object.values(lab.data.counts).map(n)]], byId("counts"));
  const classes = lab.data.classNames.length;
  const shapes = [["C1", "6 × 28 × 28", 156, 117600], ["S2", "6 × 14 × 14", 0, 0], ["C3", "16 × 10 × 10", 2416, 240000]];
  shapes.push(["S4", "16 × 5 × 5", 0, 0], ["C5", 120, 48120, 48000], ["F6", 84, 10164, 10080]);
  shapes.push(["output", classes, 85 * classes, 84 * classes]);
  lab.layerTable = shapes.map(([name, , weights]) => ({ name, weights }));
  const sums = [2, 3].map((column) => n(shapes.reduce((sum, shape) => sum + shape[column], 0)));
  const shown = shapes.map(([name, output, weights, products]) => [name, output, n(weights), n(products)]);
  table(words().tableHead, [...shown, [words().sum, "", ...sums]], byId("table").querySelector(".table"));
}

function watch() {
  if (!lab.digit) return; // nothing is loaded yet
  tell("watch", { picture: isOpen("architecture") ? lab.digit.pixels : null, probe: isOpen("units") });
}

function chooseDigit() {
  const index = lab.data.counts.train + Math.floor(Math.random() * lab.data.counts.val);
  lab.digit = { pixels: pixelsOf(index).slice(), label: lab.labels[index] };
  watch();
}

function readGrey(grey) {
  const steps = prepare(grey);
  if (steps) lab.digit = { pixels: Uint8Array.from(steps.seen.values), label: null };
  watch();
  return steps !== null;
}

async function readFile(file) {
  const bitmap = file && (await createImageBitmap(file).catch(() => null));
  if (!bitmap) return say(words().noPicture);
  const scale = Math.min(1, 256 / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((size) => Math.max(8, Math.round(size * scale)));
  const context = make("canvas", { width, height }).getContext("2d");
  context.fillStyle = "#fff"; // behind what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const grey = picture(height, width, (y, x) => {
    const place = 4 * (y * width + x);
    return 0.299 * data[place] + 0.587 * data[place + 1] + 0.114 * data[place + 2];
  });
  say(readGrey(grey) ? "" : words().noInk);
}
