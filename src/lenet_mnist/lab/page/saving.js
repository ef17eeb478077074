// What can be taken away: the network as a zip for `lenet import`, and the curve.
"use strict";

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

// Whole numbers [bytes, value], least significant byte first.
const numbers = (...fields) => Uint8Array.from(fields.flatMap(([size, value]) => {
  return Array.from({ length: size }, (_, k) => (value >>> (8 * k)) & 255);
}));

// A zip of files {name: text or bytes}, stored as they are. Source: PKWARE's APPNOTE 6.3, 4.3.7, 4.3.12 and 4.3.16.
function zipOf(files) {
  const encoder = new TextEncoder();
  const [local, central] = [[], []];
  let offset = 0;
  for (const [name, content] of Object.entries(files)) {
    const [path, bytes] = [encoder.encode(name), typeof content === "string" ? encoder.encode(content) : content];
    const day = 0x21; // 1 January 1980: the same network is the same file
    const sizes = [[4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, path.length], [2, 0]];
    const head = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, day], ...sizes];
    local.push(numbers([4, 0x04034b50], ...head), path, bytes);
    central.push(numbers([4, 0x02014b50], [2, 20], ...head, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), path);
    offset += 30 + path.length + bytes.length;
  }
  const size = central.reduce((sum, part) => sum + part.length, 0);
  const count = central.length / 2;
  const end = numbers([4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, offset], [2, 0]);
  return new Blob([...local, ...central, end], { type: "application/zip" });
}

function download(name, blob) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// The rows that `lenet train` writes, too.
const EPOCH_HEAD = "epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy,seconds";
const epochRow = ({ epoch, step, rate, train, val, seconds }) => {
  return [epoch, step, rate, train.loss, train.accuracy, val.loss, val.accuracy, seconds];
};
const STEP_HEAD = "step,epoch,lr,train_loss,gradient_norm,c1_gradient_norm";
const stepRow = ({ step, epoch, rate, loss, norms }) => [step, epoch, rate, loss, norms[5], norms[0]];
const csv = (head, rows) => [head, ...rows.map((row) => row.join(","))].join("\n") + "\n";

function saveZip({ number, weights, epoch }) {
  const { steps, epochs, ended } = lab.views[number];
  const { trainImages, fold, ...settings } = lab.settings[number];
  const about = { engine: "browser", agent: navigator.userAgent, origin: DATA.origin, epoch, ended, testLooks: lab.looks };
  const kept = steps.filter(({ step }) => step <= 200 || step % 20 === 0);
  const files = {
    "config.json": JSON.stringify(settings, null, 2),
    "about.json": JSON.stringify(about, null, 2),
    "history.csv": csv(EPOCH_HEAD, epochs.map(epochRow)),
    "steps.csv": csv(STEP_HEAD, kept.map(stepRow)),
    "weights.bin": new Uint8Array(weights.buffer),
  };
  download(`lenet-lab-${settings.activation}-${letter(number)}.zip`, zipOf(files));
}

function saveCsv() {
  const rows = lab.views.flatMap(({ epochs }, k) => epochs.map((row) => [letter(k), ...epochRow(row)]));
  download("lenet-lab-curve.csv", new Blob([csv(`network,${EPOCH_HEAD}`, rows)], { type: "text/csv" }));
}

function savePng() {
  const charts = [byId("loss"), byId("accuracy")].filter(({ width }) => width);
  const scale = devicePixelRatio || 1;
  const head = 24 * scale;
  const width = Math.max(...charts.map((chart) => chart.width));
  const canvas = make("canvas", { width, height: charts.reduce((sum, chart) => sum + chart.height, head) });
  const context = canvas.getContext("2d");
  context.fillStyle = colour("ground");
  context.fillRect(0, 0, width, canvas.height);
  context.font = `${13 * scale}px sans-serif`;
  let [x, y] = [8 * scale, head];
  lab.settings.map(nameOf).forEach((name, k) => {
    context.fillStyle = colour(`c${k}`);
    context.fillText(name, x, 16 * scale);
    x += context.measureText(name).width + 16 * scale;
  });
  for (const chart of charts) {
    context.drawImage(chart, 0, y);
    y += chart.height;
  }
  canvas.toBlob((blob) => download("lenet-lab-curve.png", blob), "image/png");
}
