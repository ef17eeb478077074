// What the pages share: a paper to draw on, with mouse, finger, pen and keyboard, and how maps and answers are shown.
// Text from a run is only ever set as text.
"use strict";

const PEN_WIDTH = 20; // of 256: strokes as wide as MNIST's
const [KEY_STEP, SMALL_KEY_STEP] = [12, 3];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const GAP = 1; // pixels between feature maps

// A canvas to draw on. `mark` shows the keyboard's pen, `say` tells that it is down or lifted; `changed` is called, at most
// once per frame, after the drawing has changed.
class Paper {
  constructor(canvas, mark, say, changed) {
    Object.assign(this, { canvas, mark, say, changed, isWaiting: false });
    this.ink = canvas.getContext("2d", { willReadFrequently: true });
    this.pen = { x: 128, y: 60, isDown: false };
    this.#listenToPointers();
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => {
      this.pen.isDown = false;
      mark.hidden = true;
    });
  }

  clear() {
    this.ink.fillStyle = "#fff";
    this.ink.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.#changedSoon();
  }

  // Half the paper's size, each pixel the mean of four: enough for 28 x 28 pixels, and four times as fast.
  grey() {
    const { width, height, data } = this.ink.getImageData(0, 0, this.canvas.width, this.canvas.height);
    const red = (y, x) => data[4 * (y * width + x)]; // green and blue are the same
    const mean = (y, x) => (red(y, x) + red(y, x + 1) + red(y + 1, x) + red(y + 1, x + 1)) / 4;
    return picture(height / 2, width / 2, (y, x) => mean(2 * y, 2 * x));
  }

  #stroke(from, to) {
    const { ink } = this;
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
      this.say(pen.isDown);
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
      this.changed();
    });
  }
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
    bar.style.width = `${(100 * probability).toFixed(1)}%`;
    setText(share, perCent(probability));
    item.classList.toggle("first", isFirst);
  };
}

function perCent(probability) {
  return probability > 0.999 ? ">99.9%" : `${(100 * probability).toFixed(1)}%`;
}

// A page that writes only what has changed is laid out only then.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function resize(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}

// From white to black.
const grey = (share) => [255 - 255 * share, 255 - 255 * share, 255 - 255 * share];

// Draw maps in columns; `shade` is the colour of a share: 0 at `low`, 1 at `high`.
function drawMaps(canvas, { channels, size, values }, [low, high], columns, shade = grey) {
  const rows = Math.ceil(channels / columns);
  resize(canvas, columns * (size + GAP) - GAP, rows * (size + GAP) - GAP);
  const context = canvas.getContext("2d");
  for (let c = 0; c < channels; c++) {
    const image = context.createImageData(size, size);
    for (let k = 0; k < size * size; k++) {
      const [red, green, blue] = shade((values[c * size * size + k] - low) / (high - low));
      image.data[4 * k] = red;
      image.data[4 * k + 1] = green;
      image.data[4 * k + 2] = blue;
      image.data[4 * k + 3] = 255;
    }
    context.putImageData(image, (c % columns) * (size + GAP), Math.floor(c / columns) * (size + GAP));
  }
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
