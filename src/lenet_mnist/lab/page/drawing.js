// What the pages share: a paper to draw on, and how a network's layers and its answer are shown. Names from data and runs
// are only ever set as text.
"use strict";

const IMAGE_SIZE = 28;
const PEN_WIDTH = 20; // of 256: strokes as wide as MNIST's
const [KEY_STEP, SMALL_KEY_STEP] = [12, 3];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const MOST_PIXELS = 256; // of the longer side of a picture from a file
const GAP = 1; // pixels between feature maps
// [name, maps, side, columns, pixels of the screen for one of the map]
const SHOWN = [
  ["input", 1, 28, 1, 2.5], ["c1", 6, 28, 2, 1.6], ["s2", 6, 14, 2, 2.4], ["c3", 16, 10, 4, 2.7], ["s4", 16, 5, 4, 4],
  ["c5", 120, 1, 8, 4], ["f6", 84, 1, 7, 4],
];

// A function of WebAssembly that uses a vector: (module (func (result v128) i32.const 0 i8x16.splat i8x16.popcnt))
const WITH_VECTORS = [
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0],
  ...[10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11],
];

const hasVectors = () => Boolean(WebAssembly.validate?.(Uint8Array.from(WITH_VECTORS)));
const byId = (id) => document.getElementById(id);

function make(tag, { text, className, parent, ...rest } = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  parent?.append(element);
  return Object.assign(element, rest);
}

// A page that writes only what has changed is laid out only then.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function say(text) {
  byId("message").hidden = !text;
  setText(byId("message"), text);
}

// What is on a canvas, in grey levels; each value is the mean of `size` x `size` pixels.
function greyOf(canvas, size) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const grey = { height: Math.floor(canvas.height / size), width: Math.floor(canvas.width / size) };
  grey.values = new Float64Array(grey.height * grey.width);
  for (let y = 0; y < grey.height * size; y++) {
    for (let x = 0; x < grey.width * size; x++) {
      const place = 4 * (y * canvas.width + x);
      const level = (299 * data[place] + 587 * data[place + 1] + 114 * data[place + 2]) / 1000;
      grey.values[Math.floor(y / size) * grey.width + Math.floor(x / size)] += level / size ** 2;
    }
  }
  return grey;
}

// The picture in a file, in grey levels; null if the browser cannot read it.
async function greyOfFile(file) {
  const bitmap = file && (await createImageBitmap(file).catch(() => null));
  if (!bitmap) return null;
  const scale = Math.min(1, MOST_PIXELS / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((size) => Math.max(8, Math.round(size * scale)));
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // behind what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  return greyOf(canvas, 1);
}

// The paper of paper.html. `read(grey, isFile)` is called with what is drawn, at most once per frame, after it has changed,
// and with a picture that was opened, or dropped anywhere: a browser that opens what is dropped would leave the page.
class Paper {
  constructor(read) {
    Object.assign(this, { canvas: byId("paper"), mark: byId("pen"), read, isWaiting: false });
    this.ink = this.canvas.getContext("2d", { willReadFrequently: true });
    this.pen = { x: 128, y: 60, isDown: false };
    this.#blank();
    this.#listenToPointers();
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.canvas.addEventListener("blur", () => {
      this.pen.isDown = false;
      this.mark.hidden = true;
    });
    byId("clear").addEventListener("click", () => this.clear());
    byId("file").addEventListener("change", ({ target }) => this.#open(target.files[0]));
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      this.#open(event.dataTransfer.files[0]);
    });
  }

  clear() {
    this.#blank();
    this.#changedSoon();
  }

  // Half the paper's size: enough for 28 x 28 pixels, and four times as fast.
  grey() {
    return greyOf(this.canvas, 2);
  }

  #blank() {
    this.ink.fillStyle = "#fff";
    this.ink.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  async #open(file) {
    const grey = await greyOfFile(file);
    if (grey) this.read(grey, true);
    else say(words("noPicture"));
  }

  #stroke(from, to) {
    const { ink } = this;
    ink.strokeStyle = ink.fillStyle = "#000";
    ink.lineWidth = PEN_WIDTH;
    ink.lineCap = "round";
    ink.beginPath();
    if (from.x === to.x && from.y === to.y) {
      // A dot is drawn as a disc: some browsers draw no line of length zero.
      ink.arc(to.x, to.y, PEN_WIDTH / 2, 0, 2 * Math.PI);
      ink.fill();
    } else {
      ink.moveTo(from.x, from.y);
      ink.lineTo(to.x, to.y);
      ink.stroke();
    }
    this.#changedSoon();
  }

  // Mouse, touch and pen. Several fingers draw several strokes.
  #listenToPointers() {
    const { canvas } = this;
    const pointers = new Map();
    const place = (event) => {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      const [right, down] = [(event.clientX - left) / width, (event.clientY - top) / height];
      return { x: right * canvas.width, y: down * canvas.height };
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, place(event));
      this.#stroke(place(event), place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!pointers.has(event.pointerId)) return;
      const moves = event.getCoalescedEvents?.() ?? [];
      for (const each of moves.length ? moves : [event]) {
        const next = place(each);
        this.#stroke(pointers.get(event.pointerId), next);
        pointers.set(event.pointerId, next);
      }
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
    }
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { pen, canvas, mark } = this;
    if (event.key in ARROWS) {
      const [right, down] = ARROWS[event.key];
      const step = event.shiftKey ? SMALL_KEY_STEP : KEY_STEP;
      const from = { x: pen.x, y: pen.y };
      pen.x = Math.min(Math.max(pen.x + right * step, 0), canvas.width);
      pen.y = Math.min(Math.max(pen.y + down * step, 0), canvas.height);
      if (pen.isDown) this.#stroke(from, pen);
    } else if (event.key === " ") {
      pen.isDown = !pen.isDown;
      byId("pen-state").textContent = words(pen.isDown ? "penDown" : "penUp");
      if (pen.isDown) this.#stroke(pen, pen);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      pen.isDown = false;
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
    mark.style.left = `${(100 * pen.x) / canvas.width}%`;
    mark.style.top = `${(100 * pen.y) / canvas.height}%`;
    mark.classList.toggle("down", pen.isDown);
    mark.hidden = false;
  }

  #changedSoon() {
    if (this.isWaiting) return;
    this.isWaiting = true;
    requestAnimationFrame(() => {
      this.isWaiting = false;
      this.read(this.grey(), false);
    });
  }
}

// From white to black.
const grey = (share) => [255 - 255 * share, 255 - 255 * share, 255 - 255 * share];

function resize(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}

// Draw `maps` x side x side values in columns; `shade` is the colour of a share: 0 at `low`, 1 at `high`.
function drawMaps(canvas, values, [maps, side, columns], [low, high], shade = grey) {
  resize(canvas, columns * (side + GAP) - GAP, Math.ceil(maps / columns) * (side + GAP) - GAP);
  const context = canvas.getContext("2d");
  for (let c = 0; c < maps; c++) {
    const image = context.createImageData(side, side);
    for (let k = 0; k < side * side; k++) {
      const [red, green, blue] = shade((values[c * side * side + k] - low) / (high - low));
      [image.data[4 * k], image.data[4 * k + 1], image.data[4 * k + 2], image.data[4 * k + 3]] = [red, green, blue, 255];
    }
    context.putImageData(image, (c % columns) * (side + GAP), Math.floor(c / columns) * (side + GAP));
  }
}

const drawDigit = (canvas, pixels) => drawMaps(canvas, pixels, [1, IMAGE_SIZE, 1], [0, 255]);
const largest = (values) => values.reduce((most, value) => Math.max(most, value), -Infinity);
const rangeOf = (activation, values) => [activation === "tanh" ? -1 : 0, activation === "relu" ? largest(values) || 1 : 1];

// Add bars under their names; return the function that shows shares, of which the place `first` stands out.
function barsIn(parent, names) {
  const list = make("ol", { className: "bars", role: "list", parent });
  const rows = names.map((name) => {
    const item = make("li", { parent: list });
    make("span", { className: "class", text: name, title: name, parent: item });
    const bar = make("span", { className: "bar", parent: make("span", { className: "track", parent: item }) });
    return { item, bar, share: make("span", { className: "share", parent: item }) };
  });
  return (shares, first) => rows.forEach(({ item, bar, share }, k) => {
    bar.style.width = `${(100 * shares[k]).toFixed(1)}%`;
    setText(share, perCent(shares[k]));
    item.classList.toggle("first", k === first);
  });
}

const perCent = (share) => (share > 0.999 ? ">99.9%" : `${(100 * share).toFixed(1)}%`);

// Add a network's answer and its layers, from what it sees on; return the function that shows `layers`, what it makes of
// `pixels`, and `sentence(class, share)`, and returns the class. For an empty paper the bars are empty.
function layersIn(parent, activation, classNames) {
  const said = make("p", { className: "says", parent });
  const list = make("ol", { className: "layers", role: "list", parent });
  const canvases = SHOWN.map(([name, maps, side, columns, scale]) => {
    const item = make("li", { parent: list });
    const text = name === "input" ? words("input") : name.toUpperCase();
    const ariaLabel = words("maps", { k: maps, name: text });
    const canvas = make("canvas", { className: "pixels", role: "img", ariaLabel, parent: item });
    canvas.style.width = `${(columns * (side + GAP) - GAP) * scale}px`;
    make("div", { text, parent: item });
    make("div", { className: "small", text: [maps, side, side].filter((size) => size > 1).join(" × "), parent: item });
    return canvas;
  });
  const item = make("li", { parent: list });
  const showBars = barsIn(item, classNames);
  make("p", { className: "small", text: words(`${activation}Scale`), parent });

  return (pixels, layers, sentence, isEmpty = false) => {
    SHOWN.forEach(([name, ...shape], k) => {
      if (name === "input") drawDigit(canvases[k], pixels);
      else drawMaps(canvases[k], layers[name], shape, rangeOf(activation, layers[name]));
    });
    const highest = largest(layers.logits);
    const powers = layers.logits.map((logit) => Math.exp(logit - highest));
    const sum = powers.reduce((total, power) => total + power, 0);
    const first = isEmpty ? -1 : layers.logits.indexOf(highest);
    showBars(isEmpty ? classNames.map(() => 0) : powers.map((power) => power / sum), first);
    setText(said, sentence(classNames[first], perCent(1 / sum)));
    return classNames[first];
  };
}
