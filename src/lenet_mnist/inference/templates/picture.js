// From a grey picture of a digit to the small one that the network sees: inference/pictures.py and data/decoding.py,
// line by line.
// A picture is {height, width, values}: a Float64Array, row by row. Constants and names are those of the Python module.
"use strict";

const DIGIT_SIZE = 20;
const IMAGE_SIZE = 28;
const LEAST_CONTRAST = 12;
const BORDER = 3;
const NOISE = 4;
const SIGMA_OF_MAD = 1.4826;
const STROKE = 0.25;
const DIRT = 0.05;
const DIGIT = 0.1;
const FULL = 0.9;
const REACH = 0.75;

// Return the steps, or null if there is no ink in the picture.
function prepare(grey) {
  const [isDarkOnLight, contrast] = estimatePolarity(grey);
  const ink = inkOf(contrast);
  if (ink === null) return null;
  const [components, labels] = connectedComponents(ink);
  const kept = componentsOfDigit(components);
  const box = boundingBox(kept);
  const isKept = new Set([0, ...kept.map((component) => component.label)]);
  const digit = picture(box.bottom - box.top, box.right - box.left, (y, x) => {
    const place = (box.top + y) * ink.width + box.left + x;
    return isKept.has(labels[place]) ? ink.values[place] : 0;
  });
  const fitted = fit(digit);
  return { isDarkOnLight, contrast, ink, components: kept, box, fitted, seen: centre(fitted) };
}

function picture(height, width, valueAt) {
  const values = new Float64Array(height * width);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) values[y * width + x] = valueAt(y, x);
  return { height, width, values };
}

function estimatePolarity(grey) {
  const inverted = { ...grey, values: grey.values.map((value) => 255 - value) };
  const [dark, light] = [topHat(inverted), topHat(grey)];
  const isDarkOnLight = score(dark) >= score(light);
  return [isDarkOnLight, isDarkOnLight ? dark : light];
}

function score({ height, width, values }) {
  const rootMeanSquare = (all) => Math.sqrt(all.reduce((sum, value) => sum + value ** 2, 0) / all.length);
  const border = [];
  for (let x = 0; x < width; x++) border.push(values[x], values[(height - 1) * width + x]);
  for (let y = 0; y < height; y++) border.push(values[y * width], values[y * width + width - 1]);
  return rootMeanSquare(values) - BORDER * rootMeanSquare(border);
}

function topHat(grey) {
  const radius = Math.floor(Math.max(grey.height, grey.width) / 4);
  const lowest = transposed(slide(transposed(slide(grey, radius, Math.min)), radius, Math.min));
  const surroundings = transposed(slide(transposed(slide(lowest, radius, Math.max)), radius, Math.max));
  return { ...grey, values: grey.values.map((value, place) => value - surroundings.values[place]) };
}

function transposed(rows) {
  return picture(rows.width, rows.height, (y, x) => rows.values[x * rows.width + y]);
}

// Return the minimum or maximum over the 2 radius + 1 pixels around each, along the rows.
function slide(rows, radius, extreme) {
  let found = extended(rows, radius);
  const join = (distance) => {
    const { height, width, values } = found;
    const at = (y, x) => values[y * width + x];
    found = picture(height, width - distance, (y, x) => extreme(at(y, x), at(y, x + distance)));
  };
  let width = 1;
  const full = 2 * radius + 1;
  for (; 2 * width <= full; width *= 2) join(width);
  join(full - width);
  return found;
}

// Return the rows with `radius` more pixels at both ends, by an odd reflection: what rises keeps rising.
function extended(rows, radius) {
  const last = rows.width - 1;
  return picture(rows.height, rows.width + 2 * radius, (y, x) => {
    const place = x - radius;
    const turns = Math.floor(place / last);
    const rest = place - turns * last;
    const at = (column) => rows.values[y * rows.width + column];
    const rise = at(last) - at(0);
    return turns % 2 === 0 ? at(rest) + turns * rise : 2 * at(last) - at(last - rest) + (turns - 1) * rise;
  });
}

function otsuThreshold(values) {
  const counts = new Float64Array(256);
  for (const value of values) counts[Math.min(Math.max(Math.floor(value + 0.5), 0), 255)] += 1;
  const numAll = values.length;
  const sumAll = counts.reduce((sum, count, level) => sum + count * level, 0);
  let [numBelow, sumBelow, best, threshold] = [0, 0, -1, 0];
  for (let level = 0; level < 256; level++) {
    numBelow += counts[level];
    sumBelow += counts[level] * level;
    const numAbove = numAll - numBelow;
    const distance = sumBelow / Math.max(numBelow, 1) - (sumAll - sumBelow) / Math.max(numAbove, 1);
    const between = numBelow * numAbove * distance ** 2;
    if (between > best) [best, threshold] = [between, level + 0.5];
  }
  return threshold;
}

function inkOf(contrast) {
  const threshold = otsuThreshold(contrast.values);
  const paper = contrast.values.filter((value) => value <= threshold);
  const strokes = contrast.values.filter((value) => value > threshold);
  const middle = median(paper);
  const noInk = middle + NOISE * SIGMA_OF_MAD * median(paper.map((value) => Math.abs(value - middle)));
  const fullInk = strokes.length ? median(strokes) : noInk;
  if (fullInk - noInk < LEAST_CONTRAST) return null;
  const clip = (value) => Math.min(Math.max(value, 0), 1);
  return { ...contrast, values: contrast.values.map((value) => clip((value - noInk) / (fullInk - noInk))) };
}

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function connectedComponents(ink) {
  const { height, width } = ink;
  const row = width + 2; // with a border of paper, so that each pixel has eight neighbours
  const inkAt = (y, x) => (y >= 0 && y < height && x >= 0 && x < width ? ink.values[y * width + x] : 0);
  const framed = picture(height + 2, row, (y, x) => inkAt(y - 1, x - 1)).values;
  const labels = Int32Array.from(framed, (value) => (value >= STROKE ? -1 : 0));
  const neighbours = [-row - 1, -row, -row + 1, -1, 1, row - 1, row, row + 1];
  const components = [];
  for (let start = 0; start < labels.length; start++) {
    if (labels[start] !== -1) continue;
    const label = components.length + 1;
    labels[start] = label;
    const inside = [start];
    const box = { top: height, bottom: 0, left: width, right: 0 };
    let mass = 0;
    for (const place of inside) { // which grows in the loop
      for (const step of neighbours) {
        if (labels[place + step] === -1) {
          labels[place + step] = label;
          inside.push(place + step);
        }
      }
      const [y, x] = [Math.floor(place / row) - 1, (place % row) - 1];
      [box.top, box.bottom] = [Math.min(box.top, y), Math.max(box.bottom, y + 1)];
      [box.left, box.right] = [Math.min(box.left, x), Math.max(box.right, x + 1)];
      mass += framed[place];
    }
    const numSides = (box.top === 0) + (box.bottom === height) + (box.left === 0) + (box.right === width);
    components.push({ label, box, mass, numSides });
  }
  return [components, picture(height, width, (y, x) => labels[(y + 1) * row + x + 1]).values];
}

function componentsOfDigit(components) {
  const inner = components.filter((component) => component.numSides < 2);
  const allMass = components.reduce((sum, component) => sum + component.mass, 0);
  const heaviestOf = (some) => some.reduce((most, component) => Math.max(most, component.mass), 0);
  const candidates = heaviestOf(inner) >= DIGIT * allMass ? inner : components;
  return candidates.filter((component) => component.mass >= DIRT * heaviestOf(candidates));
}

function boundingBox(components) {
  const sides = (name) => components.map((component) => component.box[name]);
  const [least, most] = [(name) => Math.min(...sides(name)), (name) => Math.max(...sides(name))];
  return { top: least("top"), bottom: most("bottom"), left: least("left"), right: most("right") };
}

function fit(digit) {
  const scale = DIGIT_SIZE / Math.max(digit.height, digit.width);
  const rows = resampling(digit.height, Math.max(1, Math.floor(digit.height * scale + 0.5)));
  const columns = resampling(digit.width, Math.max(1, Math.floor(digit.width * scale + 0.5)));
  const small = product(rows, product(digit, transposed(columns)));
  const strongest = small.values.reduce((most, value) => Math.max(most, value), 0);
  const strokes = small.values.filter((value) => value >= STROKE * strongest).sort();
  const full = strokes[Math.floor(FULL * (strokes.length - 1))];
  return { ...small, values: small.values.map((value) => Math.min(value / full, 1)) };
}

function product(a, b) {
  return picture(a.height, b.width, (y, x) => {
    let sum = 0;
    for (let k = 0; k < a.width; k++) sum += a.values[y * a.width + k] * b.values[k * b.width + x];
    return sum;
  });
}

function resampling(size, newSize) {
  const step = size / newSize;
  const reach = Math.max(REACH * step, 1);
  const weights = picture(newSize, size, (to, from) => {
    const middle = (to + 0.5) * step - 0.5;
    return Math.max(0, 1 - Math.abs(from - middle) / reach);
  });
  for (let to = 0; to < newSize; to++) {
    const row = weights.values.subarray(to * size, (to + 1) * size);
    const sum = row.reduce((total, weight) => total + weight, 0);
    row.forEach((weight, from) => (row[from] = weight / sum));
  }
  return weights;
}

function centre({ height, width, values }) {
  let [mass, y, x] = [0, 0, 0];
  values.forEach((value, place) => {
    mass += value;
    y += value * Math.floor(place / width);
    x += value * (place % width);
  });
  const start = (middle, size) => {
    return Math.min(Math.max(Math.floor(IMAGE_SIZE / 2 - middle + 0.5), 0), IMAGE_SIZE - size);
  };
  const [top, left] = [start(y / mass, height), start(x / mass, width)];
  return picture(IMAGE_SIZE, IMAGE_SIZE, (v, u) => {
    const isInside = v >= top && v < top + height && u >= left && u < left + width;
    return isInside ? Math.floor(255 * values[(v - top) * width + u - left] + 0.5) : 0;
  });
}
