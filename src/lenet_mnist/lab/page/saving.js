// What can be taken away: the network as a zip for `lenet lab --import`, the curve, the command line.
"use strict";

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

// A zip of files {name: text or bytes}, stored as they are. Source: PKWARE's APPNOTE 6.3, 4.3.7, 4.3.12 and 4.3.16.
function zipOf(files) {
  const encoder = new TextEncoder();
  const numbers = (...fields) => {
    const view = new DataView(new ArrayBuffer(fields.reduce((sum, [size]) => sum + size, 0)));
    let place = 0;
    for (const [size, value] of fields) {
      if (size === 2) view.setUint16(place, value, true);
      else view.setUint32(place, value, true);
      place += size;
    }
    return new Uint8Array(view.buffer);
  };
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

const csv = (head, rows) => [head, ...rows.map((row) => row.join(","))].join("\n") + "\n";

// The rows that `lenet train` writes, too.
function historyCsv({ epochs }) {
  const head = "epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy,seconds";
  return csv(head, epochs.map(({ epoch, step, rate, train, val, seconds }) => {
    return [epoch, step, rate, train.loss, train.accuracy, val.loss, val.accuracy, seconds];
  }));
}

function stepsCsv({ steps }) {
  const rows = steps.filter(({ step }) => step <= 200 || step % 20 === 0);
  const head = "step,epoch,lr,train_loss,gradient_norm,c1_gradient_norm";
  return csv(head, rows.map(({ step, epoch, rate, loss, norms }) => [step, epoch, rate, loss, norms[5], norms[0]]));
}

function saveZip({ number, weights, epoch }) {
  const view = lab.views[number];
  const { trainImages, fold, ...settings } = lab.settings[number];
  const ended = view.ended ?? null;
  const about = {
    engine: "browser", agent: navigator.userAgent, origin: lab.data.origin, epoch, ended, testLooks: lab.looks,
  };
  const files = { "config.json": JSON.stringify(settings, null, 2), "about.json": JSON.stringify(about, null, 2) };
  files["history.csv"] = historyCsv(view);
  files["steps.csv"] = stepsCsv(view);
  files["weights.bin"] = new Uint8Array(weights.buffer, weights.byteOffset, weights.byteLength);
  download(`lenet-lab-${settings.activation}-${letter(number)}.zip`, zipOf(files));
}

function saveCsv() {
  const rows = lab.views.flatMap((view, k) => historyCsv(view).trim().split("\n").slice(1).map((row) => `${letter(k)},${row}`));
  const head = "network,epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy,seconds";
  download("lenet-lab-curve.csv", new Blob([csv(head, rows.map((row) => [row]))], { type: "text/csv" }));
}

function savePng() {
  const charts = [byId("loss"), byId("accuracy")].filter(({ width }) => width);
  const [scale, width] = [devicePixelRatio || 1, Math.max(...charts.map((chart) => chart.width))];
  const row = 24 * scale;
  const height = charts.reduce((sum, chart) => sum + chart.height, row);
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = colour("ground");
  context.fillRect(0, 0, width, height);
  context.font = `${13 * scale}px sans-serif`;
  let x = 8 * scale;
  lab.settings.forEach((settings, k) => {
    context.fillStyle = networkColour(k);
    context.fillText(nameOf(settings, k), x, 16 * scale);
    x += context.measureText(nameOf(settings, k)).width + 16 * scale;
  });
  let y = row;
  for (const chart of charts) {
    context.drawImage(chart, 0, y);
    y += chart.height;
  }
  canvas.toBlob((blob) => download("lenet-lab-curve.png", blob), "image/png");
}

// The command that trains the same on the same images; of folds, the one that cross-validates. What the recipe relu, which
// is the default, has as well is left out.
function commandOf(settings) {
  const isFold = settings.fold !== null;
  const usual = { ...lab.data.recipes.relu, source: "mnist", train_size: 55000, val_size: 5000, split_seed: 0 };
  const { limit_train: limited, ...images } = lab.data.origin.data;
  const limit = settings.trainImages ?? limited;
  const flags = { activation: "--activation", rate: "--lr", epochs: "--epochs", batchSize: "--batch-size", seed: "--seed" };
  const words = Object.entries(flags).map(([name, flag]) => `${flag} ${settings[name]}`);
  if (limit !== null) words.push(`--limit-train ${limit}`);
  const keys = { weightDecay: "weight_decay", labelSmoothing: "label_smoothing" };
  const sets = Object.entries(settings)
    .filter(([name, value]) => !(name in flags) && name in usual && value !== usual[name])
    .map(([name, value]) => [`training.${keys[name] ?? name}`, value]);
  for (const [name, value] of Object.entries(images)) {
    const isUsual = value === null || value === false || value === usual[name];
    if (!isUsual && !(isFold && name.endsWith("_size"))) sets.push([`data.${name}`, value]);
  }
  if (!isFold) sets.push(["training.patience", "null"]);
  const quoted = (text) => (/^[\w./-]+$/.test(text) ? text : `'${String(text).replaceAll("'", "'\\''")}'`);
  words.push(...sets.map(([key, value]) => `--set ${key}=${quoted(value)}`));
  return [isFold ? "lenet cross-validate --folds 5" : "lenet train", ...words].join(" ");
}
