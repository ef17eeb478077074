// Charts on plain canvas, in the page's colours, light and dark.
"use strict";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const networkColour = (k) => colour(`c${k % 8}`);

// Round numbers between two ends: powers of ten, or steps of 1, 2 or 5.
function ticksOf(low, high, isLog, count) {
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

// Draw series [{ xs, ys, colour, width, dots, faint }]; `x` and `y` are { low, high, isLog, label, text }.
function drawChart(canvas, series, x, y) {
  const [width, height, scale] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
  if (!width) return; // in a closed room
  resize(canvas, Math.round(width * scale), Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = `12px ${getComputedStyle(canvas).fontFamily}`;
  const ticks = ticksOf(y.low, y.high, y.isLog, 5);
  const widest = Math.max(30, ...ticks.map((tick) => context.measureText(y.text(tick)).width));
  const box = { left: widest + 8, right: width - 8, top: 8, bottom: height - 34 };
  const share = ({ low, high, isLog }, value) => {
    if (isLog) return Math.log(Math.max(value, low) / low) / Math.log(high / low);
    return (value - low) / (high - low);
  };
  const toX = (value) => box.left + share(x, value) * (box.right - box.left);
  const toY = (value) => box.bottom - Math.min(Math.max(share(y, value), 0), 1) * (box.bottom - box.top);

  context.fillStyle = colour("muted");
  context.strokeStyle = colour("grid");
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const tick of ticks) {
    context.fillText(y.text(tick), box.left - 6, toY(tick));
    line(context, [box.left, box.right], [toY(tick), toY(tick)]);
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const tick of ticksOf(x.low, x.high, x.isLog, Math.max(2, width / 90))) {
    context.fillText(x.text(tick), Math.min(toX(tick), box.right - 12), box.bottom + 5);
  }
  context.fillText(x.label, (box.left + box.right) / 2, box.bottom + 19);
  for (const { xs, ys, colour: ink, width: thickness = 2, dots, faint } of series) {
    context.strokeStyle = context.fillStyle = ink;
    context.globalAlpha = faint ? 0.35 : 1;
    context.lineWidth = thickness;
    const [places, heights] = thinned(xs.map(toX), ys.map(toY));
    line(context, places, heights);
    for (let k = 0; dots && k < xs.length; k++) {
      context.beginPath();
      context.arc(toX(xs[k]), toY(ys[k]), 3.5, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
  }
}

function line(context, xs, ys) {
  context.beginPath();
  for (let k = 0; k < xs.length; k++) context.lineTo(xs[k], ys[k]);
  context.stroke();
}

// Of thousands of points, the highest and the lowest in each half pixel: more cannot be seen.
function thinned(xs, ys) {
  if (xs.length < 2000) return [xs, ys];
  const [kept, heights] = [[], []];
  for (let k = 0; k < xs.length; ) {
    let [least, most] = [k, k];
    const column = Math.floor(2 * xs[k]);
    for (; k < xs.length && Math.floor(2 * xs[k]) === column; k++) {
      if (ys[k] < ys[least]) least = k;
      if (ys[k] > ys[most]) most = k;
    }
    for (const place of least < most ? [least, most] : [most, least]) {
      kept.push(xs[place]);
      heights.push(ys[place]);
    }
  }
  return [kept, heights];
}

// Of many values, the means of at most `count` neighbours each: [places from 1, means].
function bucketed(values, count) {
  const size = Math.ceil(values.length / count);
  const [places, means] = [[], []];
  for (let k = 0; k < values.length; k += size) {
    const some = values.slice(k, k + size);
    places.push(k + (some.length + 1) / 2);
    means.push(some.reduce((sum, value) => sum + value, 0) / some.length);
  }
  return [places, means];
}
