// Charts on plain canvas, in the page's colours, light and dark.
"use strict";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Round numbers between two ends: powers of ten, or steps of 1, 2 or 5.
function ticksOf({ low, high, isLog }, count) {
  const ticks = [];
  if (isLog) {
    const every = Math.ceil((Math.log10(high) - Math.log10(low)) / count);
    for (let power = Math.ceil(Math.log10(low)); power <= Math.log10(high); power += every) ticks.push(10 ** power);
    return ticks;
  }
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((times) => times * power >= rough);
  for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-9); k++) ticks.push(k * step);
  return ticks;
}

// Draw series [{ xs, ys, k, width, dots, faint }] in the colours of the networks `k`; without `xs` they are 1, 2, 3, ...
// `x` and `y` are { low, high, isLog, label, text }; `text` makes a number a word.
function drawChart(canvas, series, x, y) {
  const [width, height, scale] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
  if (!width) return; // in a closed room
  resize(canvas, Math.round(width * scale), Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = `12px ${getComputedStyle(canvas).fontFamily}`;
  const ticks = ticksOf(y, 5);
  const widest = Math.max(30, ...ticks.map((tick) => context.measureText(y.text(tick)).width));
  const box = { left: widest + 8, right: width - 8, top: 8, bottom: height - 34 };
  const part = ({ low, high, isLog }, value) => {
    if (isLog) return Math.log(Math.max(value, low) / low) / Math.log(high / low);
    return (value - low) / (high - low);
  };
  const toX = (value) => box.left + part(x, value) * (box.right - box.left);
  const toY = (value) => box.bottom - Math.min(Math.max(part(y, value), 0), 1) * (box.bottom - box.top);
  const line = (xs, ys) => {
    context.beginPath();
    for (let k = 0; k < xs.length; k++) context.lineTo(xs[k], ys[k]);
    context.stroke();
  };

  context.fillStyle = colour("muted");
  context.strokeStyle = colour("grid");
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const tick of ticks) {
    context.fillText(y.text(tick), box.left - 6, toY(tick));
    line([box.left, box.right], [toY(tick), toY(tick)]);
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const tick of ticksOf(x, Math.max(2, width / 90))) {
    context.fillText(x.text(tick), Math.min(toX(tick), box.right - 12), box.bottom + 5);
  }
  context.fillText(x.label, (box.left + box.right) / 2, box.bottom + 19);
  for (const { xs, ys, k, width: thickness = 2, dots, faint } of series) {
    context.strokeStyle = context.fillStyle = colour(`c${k % 8}`);
    context.globalAlpha = faint ? 0.35 : 1;
    context.lineWidth = thickness;
    const [places, heights] = [xs ?? ys.map((_, place) => place + 1), ys].map((values) => bucketed(values, width));
    const [lefts, tops] = [places.map(toX), heights.map(toY)];
    if (thickness) line(lefts, tops);
    for (let dot = 0; dots && dot < lefts.length; dot++) {
      context.beginPath();
      context.arc(lefts[dot], tops[dot], 3.5, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
  }
}

// Of many values, the means of at most `count` neighbours each: more cannot be seen.
function bucketed(values, count) {
  const size = Math.ceil(values.length / count);
  if (size <= 1) return values;
  return Array.from({ length: Math.ceil(values.length / size) }, (_, k) => mean(values.slice(k * size, (k + 1) * size)));
}

// The list of what the colours mean.
function showLegend(list, names) {
  if (list.textContent === names.join("")) return;
  list.replaceChildren(...names.map((text, k) => {
    const item = make("li", { text });
    item.prepend(make("i"));
    item.firstChild.style.background = `var(--c${k % 8})`;
    return item;
  }));
}
