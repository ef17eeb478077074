// The page: draws what the pen does, and shows each network's answer. Text from a run is only ever set as text.
"use strict";

const PEN_WIDTH = 20; // of 256: strokes as wide as MNIST's
const [KEY_STEP, SMALL_KEY_STEP] = [12, 3];
const GAP = 1; // pixels between feature maps

const paper = document.getElementById("paper");
const ink = paper.getContext("2d", { willReadFrequently: true });
const penMark = document.getElementById("pen");
const penState = document.getElementById("pen-state");
let isWaiting = false;

function clearPaper() {
  ink.fillStyle = "#fff";
  ink.fillRect(0, 0, paper.width, paper.height);
  showSoon();
}

function stroke(from, to) {
  ink.strokeStyle = "#000";
  ink.lineWidth = PEN_WIDTH;
  ink.lineCap = "round";
  ink.beginPath();
  if (from.x === to.x && from.y === to.y) {
    // A dot is drawn as a disc: some browsers draw no line of length zero.
    ink.fillStyle = "#000";
    ink.arc(to.x, to.y, PEN_WIDTH / 2, 0, 2 * Math.PI);
    ink.fill();
  } else {
    ink.moveTo(from.x, from.y);
    ink.lineTo(to.x, to.y);
    ink.stroke();
  }
  showSoon();
}

// Mouse, touch and pen. Several fingers draw several strokes.
const pointers = new Map();

function place(event) {
  const { left, top, width, height } = paper.getBoundingClientRect();
  const [right, down] = [(event.clientX - left) / width, (event.clientY - top) / height];
  return { x: right * paper.width, y: down * paper.height };
}

paper.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  paper.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, place(event));
  stroke(place(event), place(event));
});
paper.addEventListener("pointermove", (event) => {
  if (!pointers.has(event.pointerId)) return;
  const moves = event.getCoalescedEvents?.() ?? [];
  for (const each of moves.length ? moves : [event]) {
    const next = place(each);
    stroke(pointers.get(event.pointerId), next);
    pointers.set(event.pointerId, next);
  }
});
for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
  paper.addEventListener(end, (event) => pointers.delete(event.pointerId));
}
document.getElementById("clear").addEventListener("click", clearPaper);

// The keyboard's pen.
const pen = { x: 128, y: 60, isDown: false };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function showPen() {
  penMark.style.left = `${(100 * pen.x) / paper.width}%`;
  penMark.style.top = `${(100 * pen.y) / paper.height}%`;
  penMark.classList.toggle("down", pen.isDown);
  penMark.hidden = false;
}

paper.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key in ARROWS) {
    const [right, down] = ARROWS[event.key];
    const step = event.shiftKey ? SMALL_KEY_STEP : KEY_STEP;
    const from = { x: pen.x, y: pen.y };
    pen.x = Math.min(Math.max(pen.x + right * step, 0), paper.width);
    pen.y = Math.min(Math.max(pen.y + down * step, 0), paper.height);
    if (pen.isDown) stroke(from, pen);
  } else if (event.key === " ") {
    pen.isDown = !pen.isDown;
    penState.textContent = pen.isDown ? "pen down" : "pen lifted";
    if (pen.isDown) stroke(pen, pen);
  } else if (event.key === "Delete" || event.key === "Backspace") {
    pen.isDown = false;
    clearPaper();
  } else {
    return;
  }
  event.preventDefault();
  showPen();
});
paper.addEventListener("blur", () => {
  pen.isDown = false;
  penMark.hidden = true;
});

// The networks' answers, at most once per frame.
function showSoon() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    show();
  });
}

// Half the paper's size, each pixel the mean of four: enough for 28 x 28 pixels, and four times as fast.
function greyOfPaper() {
  const { width, data } = ink.getImageData(0, 0, paper.width, paper.height);
  const red = (y, x) => data[4 * (y * width + x)]; // green and blue are the same
  const mean = (y, x) => (red(y, x) + red(y, x + 1) + red(y + 1, x) + red(y + 1, x + 1)) / 4;
  return picture(paper.height / 2, width / 2, (y, x) => mean(2 * y, 2 * x));
}

function show() {
  const steps = prepare(greyOfPaper());
  const seen = steps?.seen ?? picture(IMAGE_SIZE, IMAGE_SIZE, () => 0);
  const canvas = document.getElementById("seen");
  drawMaps(canvas, { channels: 1, size: IMAGE_SIZE, values: seen.values }, 0, 255, 1);
  canvas.ariaLabel = steps ? "Your digit in 28 by 28 pixels" : "Nothing yet: 28 by 28 empty pixels";
  const answers = views.map((each) => each(seen, steps !== null));
  document.getElementById("short-answer").textContent = steps ? answers.join(" / ") : "";
}

// Add a network to the page; return the function that shows, and returns, its answer to a picture.
function view(network) {
  const section = document.getElementById("network").content.cloneNode(true).firstElementChild;
  const part = (selector) => section.querySelector(selector);
  part("h2").textContent = network.name;
  part(".facts").textContent = `${network.activation}, weights of epoch ${network.epoch}`;
  part(".scale").textContent = SCALES[network.activation].words;
  const rows = network.classNames.map((name) => barRow(name, part(".bars")));
  document.getElementById("networks").append(section);

  return (seen, hasInk) => {
    const layers = forward(network, seen);
    const probabilities = softmax(layers.logits);
    const first = probabilities.indexOf(Math.max(...probabilities));
    rows.forEach((row, k) => row(hasInk ? probabilities[k] : 0, hasInk && k === first));
    part(".answer").textContent = hasInk ? `${network.classNames[first]}, ${perCent(probabilities[first])}` : "–";
    for (const [name, columns] of [["c1", 3], ["c3", 8]]) {
      const [low, high] = SCALES[network.activation].range(layers[name].values);
      drawMaps(part(`.${name}`), layers[name], low, high, columns);
      part(`.${name}`).ariaLabel = `${layers[name].channels} feature maps of ${name.toUpperCase()}, dark where they are active`;
    }
    return network.classNames[first];
  };
}

const SCALES = {
  sigmoid: { words: "White is 0, black is 1.", range: () => [0, 1] },
  tanh: { words: "White is -1, black is 1.", range: () => [-1, 1] },
  relu: {
    words: "White is 0, black the largest value of the layer.",
    range: (values) => [0, values.reduce((most, value) => Math.max(most, value), 1e-9)],
  },
};

function barRow(name, list) {
  const item = document.createElement("li");
  const [label, track, bar, share] = ["span", "span", "span", "span"].map((tag) => document.createElement(tag));
  [label.className, track.className, bar.className, share.className] = ["class", "track", "bar", "share"];
  label.textContent = name;
  label.title = name;
  bar.style.display = "block";
  track.append(bar);
  item.append(label, track, share);
  list.append(item);
  return (probability, isFirst) => {
    bar.style.width = `${100 * probability}%`;
    share.textContent = perCent(probability);
    item.classList.toggle("first", isFirst);
  };
}

function perCent(probability) {
  return probability > 0.999 ? ">99.9%" : `${(100 * probability).toFixed(1)}%`;
}

// Draw maps in columns, `low` in white and `high` in black.
function drawMaps(canvas, { channels, size, values }, low, high, columns) {
  const rows = channels / columns;
  canvas.width = columns * (size + GAP) - GAP;
  canvas.height = rows * (size + GAP) - GAP;
  const context = canvas.getContext("2d");
  for (let c = 0; c < channels; c++) {
    const image = context.createImageData(size, size);
    for (let k = 0; k < size * size; k++) {
      const share = (values[c * size * size + k] - low) / (high - low);
      image.data.fill(255 - 255 * share, 4 * k, 4 * k + 3);
      image.data[4 * k + 3] = 255;
    }
    context.putImageData(image, (c % columns) * (size + GAP), Math.floor(c / columns) * (size + GAP));
  }
}

const networks = JSON.parse(document.getElementById("data").textContent).networks.map(unpacked);
const views = networks.map(view);
clearPaper();
