// The page: starts the worker, and goes from what the student does to what is shown. Names from data are only set as text.
"use strict";

// A function of WebAssembly that uses a vector: (module (func (result v128) i32.const 0 i8x16.splat i8x16.popcnt))
const WITH_VECTORS = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
const ROOMS = ["architecture", "data-room", "training", "performance", "table", "kernels", "gradients", "units"];
const LONG_AGO = 20; // updates: a curve that is worth to be kept beside the next one

// All that the page knows. `settings` and `views` have one entry for each network; `experiment` counts the beginnings.
const lab = {
  data: null, pixels: null, labels: null, guessing: 0, perClass: [], layerTable: [],
  settings: [], views: [], parts: {}, experiment: 0, current: 0, isRunning: false, before: null,
  mission: 0, stage: null, memory: {}, looks: 0, digit: null,
};
let worker = null;
let isWaiting = false;
const tell = (type, rest = {}) => worker.postMessage({ type, ...rest });

function say(text) {
  byId("message").hidden = !text;
  byId("message").textContent = text;
}

// Begin an experiment anew, from the starting weights of its seeds.
function begin(settings) {
  say("");
  if (lab.views[0]?.step > LONG_AGO) lab.before = lab.views[0].means;
  Object.assign(lab, { settings, views: settings.map(emptyView), parts: {}, isRunning: false });
  lab.experiment += 1;
  lab.current = Math.min(lab.current, settings.length - 1);
  tell("begin", { settings, id: lab.experiment });
  const losses = new Set(settings.map(({ rate }) => rate)).size > 2;
  byId("sweep").hidden = !losses;
  byId("zips").replaceChildren(...settings.slice(0, 2).map((_, k) => {
    const button = make("button", { type: "button", text: words().zip(letter(k)) });
    button.onclick = () => tell("weights", { number: k });
    return button;
  }));
  byId("command").textContent = settings[0].fold === null ? settings.map(commandOf).join("\n") : commandOf(settings[0]);
  byId("tested").textContent = "";
  byId("cell").replaceChildren();
  showForm();
  history.replaceState(null, "", addressOf());
  showSoon();
}

function run(until) {
  say("");
  tell("run", { until });
}

// ---- what the worker tells

const told = {
  loaded({ pixels, labels }) {
    Object.assign(lab, { pixels, labels });
    const { counts, classNames } = lab.data;
    const [first, second] = [counts.train, counts.train + counts.val];
    lab.perClass = classNames.map(() => [0, 0, 0]);
    labels.forEach((label, k) => (lab.perClass[label][(k >= first) + (k >= second)] += 1));
    showSamples();
    showTables();
    chooseDigit();
    for (const id of ["train", "step", "epoch", "reset"]) byId(id).disabled = false;
    byId("spoken").textContent = words().ready;
    restore();
  },
  progress({ id, isRunning, networks }) {
    if (id !== lab.experiment) return;
    const wasRunning = lab.isRunning;
    lab.isRunning = isRunning;
    networks.forEach((each, k) => {
      if (each.step < lab.views[k].step) lab.views[k] = emptyView(); // back at the start
      merge(lab.views[k], each);
    });
    if (wasRunning && !isRunning) speak();
    showSoon();
  },
  tested({ results }) {
    lab.looks += 1;
    byId("tested").textContent = results.map(({ accuracy }, k) => {
      const all = lab.data.counts.test;
      const [low, high] = wilson(accuracy, all);
      return words().tested(letter(k), Math.round(accuracy * all), all, share(accuracy, 2), share(low, 2), share(high, 2));
    }).join(" ");
    showSoon();
  },
  weights: saveZip,
  failed({ noMemory, message }) {
    lab.isRunning = false;
    say(noMemory ? words().noMemory : words().failed(message));
  },
};

// The 95 % interval of a share, as analysis/intervals.py has it.
function wilson(share, count) {
  const z2 = 1.959964 ** 2 / count;
  const [middle, half] = [share + z2 / 2, Math.sqrt(z2 * (share * (1 - share) + z2 / 4))];
  return [(middle - half) / (1 + z2), (middle + half) / (1 + z2)];
}

function speak() {
  const { views } = lab;
  const epoch = views[0].epochs.length;
  const shares = views.map(({ epochs }) => (epochs.length ? share(epochs.at(-1).val.accuracy) : words().none)).join(", ");
  const ended = views.every((view) => view.ended) ? ` ${words().ended}` : "";
  byId("spoken").textContent = words().epochDone(epoch, shares) + ended;
}

// ---- what is shown, once a frame at most

function showSoon() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    show();
  });
}

const isOpen = (id) => byId(id).open && (byId(id).parentElement.closest("details")?.open ?? true);

function show() {
  const [view] = lab.views;
  if (!view?.perEpoch) return;
  const isDone = lab.views.every(({ ended }) => ended);
  byId("train").textContent = lab.isRunning ? words().pause : language === "it" ? ITALIAN.train : ENGLISH["data-ttrain"];
  for (const id of ["train", "step", "epoch"]) byId(id).disabled = isDone || (lab.isRunning && id !== "train");
  byId("where").textContent = words().where(view, lab.settings[0].epochs * view.perEpoch);
  if (lab.views.some(({ ended }) => ended === "diverged")) byId("where").textContent += `. ${words().diverged}`;
  showAdvice();
  if (isOpen("training")) drawCurves();
  if (isOpen("gradients")) showGradients();
  if (isOpen("units")) showUnits();
  if (isOpen("architecture")) showNetworks();
  if (isOpen("kernels")) showKernels();
  if (isOpen("performance")) {
    showMatrix();
    const isReady = !lab.isRunning && lab.views[0].epochs.length > 0;
    byId("test").disabled = !isReady || lab.settings[0].fold !== null;
    for (const [k, button] of [...byId("zips").children].entries()) {
      const isWhole = lab.settings[k].trainImages === null && lab.settings[k].fold === null;
      button.disabled = !isReady || !isWhole;
      button.title = isWhole ? "" : words().noZip;
    }
    byId("looks").textContent = words().looks(lab.looks);
  }
  currentMission()?.measure(lab); // which may remember a stage
}

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

// ---- the digit that the network is shown

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

// ---- missions

const currentMission = () => MISSIONS[lab.mission - 1];

function showMission() {
  const mission = currentMission();
  const options = [words().noMission, ...MISSIONS.map((each) => each[language].title)];
  byId("missions").replaceChildren(...options.map((text, value) => make("option", { text, value })));
  byId("missions").value = lab.mission;
  byId("mission").hidden = !mission;
  byId("no-mission").hidden = Boolean(mission);
  byId("answer").hidden = true;
  if (!mission) return;
  for (const id of ["says", "look", "question"]) byId(id).textContent = mission[language][id];
  byId("stages").replaceChildren(...mission.stages.map(({ label, networks }, k) => {
    const button = make("button", { type: "button", text: label[language], className: k ? "" : "main" });
    button.onclick = () => {
      lab.stage = k;
      lab.before = null;
      begin(networks.map(settingsOf));
      lab.before = null;
      openRooms(mission.rooms);
      run("end");
    };
    return button;
  }));
}

function openRooms(rooms) {
  for (const id of ROOMS) byId(id).open = rooms.includes(id);
}

function chooseMission(number) {
  Object.assign(lab, { mission: number, stage: null, memory: {} });
  showMission();
  if (currentMission()) openRooms(currentMission().rooms);
  history.replaceState(null, "", addressOf());
  watch();
}

function reveal() {
  const mission = currentMission();
  const measured = mission.measure(lab);
  byId("answer").hidden = false;
  byId("answer").textContent = measured ? mission[language].answer(measured) : words().first;
}

// Restore what the address says.
function restore() {
  const found = readAddress(location.hash);
  begin(found?.settings ?? [settingsOf({})]);
  if (!found) say(words().badLink);
  else if (found.mission !== lab.mission) chooseMission(found.mission);
}

// ---- what the student does

function listen() {
  const on = (id, action, event = "click") => byId(id).addEventListener(event, action);
  on("train", () => (lab.isRunning ? tell("pause") : run("end")));
  on("step", () => run("step"));
  on("epoch", () => run("epoch"));
  on("reset", () => tell("reset"));
  on("another", chooseDigit);
  on("others", showSamples);
  on("test", () => tell("test"));
  on("png", savePng);
  on("csv", saveCsv);
  on("reveal", reveal);
  on("missions", ({ target }) => chooseMission(Number(target.value)), "change");
  on("next-mission", () => chooseMission((lab.mission % MISSIONS.length) + 1));
  on("link", async () => {
    await navigator.clipboard?.writeText(location.href).catch(() => {});
    byId("spoken").textContent = words().copied;
  });
  on("draw", ({ target }) => {
    byId("drawing").hidden = !byId("drawing").hidden;
    target.ariaExpanded = String(!byId("drawing").hidden);
  });
  const penState = (isDown) => (byId("pen-state").textContent = isDown ? words().penDown : words().penUp);
  const paper = new Paper(byId("paper"), byId("pen"), penState, () => readGrey(paper.grey()));
  on("clear", () => paper.clear());
  paper.ink.fillStyle = "#fff";
  paper.ink.fillRect(0, 0, 256, 256);
  on("file", ({ target }) => readFile(target.files[0]), "change");
  on("drawing", (event) => event.preventDefault(), "dragover");
  on("drawing", (event) => {
    event.preventDefault();
    readFile(event.dataTransfer.files[0]);
  }, "drop");
  for (const id of ROOMS) on(id, () => (watch(), showSoon()), "toggle");
  listenToForm(begin);
  addEventListener("resize", showSoon);
  addEventListener("hashchange", restore);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showSoon);
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => speakLanguage(button.dataset.language));
  }
}

function speakLanguage(to) {
  translate(to);
  showMission();
  if (!lab.settings.length) return; // nothing is loaded yet
  showTables();
  showForm();
  for (const [k, button] of [...byId("zips").children].entries()) button.textContent = words().zip(letter(k));
  byId("advice").replaceChildren();
  showSoon();
}

function start() {
  lab.data = JSON.parse(byId("data").textContent);
  lab.guessing = lab.data.guessingLoss;
  if (!WebAssembly.validate?.(Uint8Array.from(WITH_VECTORS))) return say(words().noSimd);
  const source = new Blob([byId("worker").textContent], { type: "text/javascript" });
  worker = new Worker(URL.createObjectURL(source));
  worker.onmessage = ({ data: { type, ...rest } }) => told[type](rest);
  worker.onerror = ({ message }) => say(words().failed(message));
  const { wasm, images, labels, levels, counts, classNames } = lab.data;
  tell("load", { wasm, images, labels, levels, counts, classNames });
  for (const name of ["wasm", "images"]) delete lab.data[name];
  listen();
  speakLanguage(navigator.language.startsWith("it") ? "it" : "en");
}

start();
