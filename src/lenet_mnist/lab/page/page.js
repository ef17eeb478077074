// The page: starts the worker, and goes from what the student does to what is shown. Names from data are only set as text.
"use strict";

// A function of WebAssembly that uses a vector: (module (func (result v128) i32.const 0 i8x16.splat i8x16.popcnt))
const WITH_VECTORS = [
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0],
  ...[10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11],
];
const ROOMS = ["architecture", "data-room", "training", "performance", "table", "kernels", "gradients", "units"];
const LONG_AGO = 20; // updates: a curve that is worth to be kept beside the next one

// All that the page knows. `settings` and `views` have one entry for each network; `experiment` and
// `runs` count what the worker was told, so that older reports are known.
const lab = {
  data: null, pixels: null, labels: null, guessing: 0, perClass: [], layerTable: [],
  settings: [], views: [], parts: {}, experiment: 0, runs: 0, current: 0, isRunning: false, before: null,
  mission: 0, stage: -1, memory: {}, looks: 0, digit: null,
};
let worker = null;
const isDeepEqual = (a, b) => JSON.stringify(a) === JSON.stringify(b);
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
  enableButtons();
  lab.stage = currentMission()?.stages.findIndex((each) => isDeepEqual(each.networks.map(settingsOf), settings)) ?? -1;
  byId("sweep").hidden = new Set(settings.map(({ rate }) => rate)).size <= 2;
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

function enableButtons() {
  const isDone = lab.views.every(({ ended }) => ended);
  for (const id of ["train", "step", "epoch", "reset"]) {
    byId(id).disabled = id !== "reset" && (isDone || (lab.isRunning && id !== "train"));
  }
}

function run(until) {
  say("");
  lab.isRunning = true;
  lab.runs += 1;
  tell("run", { until, number: lab.runs });
  showSoon();
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
    byId("spoken").textContent = words().ready;
    restore();
  },
  progress({ id, number, isRunning, networks }) {
    if (id !== lab.experiment) return;
    const wasRunning = lab.isRunning;
    if (number === lab.runs) lab.isRunning = isRunning;
    networks.forEach((each, k) => {
      if (each.step < lab.views[k].step) lab.views[k] = emptyView(); // back at the start
      merge(lab.views[k], each);
    });
    if (wasRunning && !lab.isRunning) speak();
    showSoon();
  },
  tested({ results }) {
    lab.looks += 1;
    byId("tested").textContent = results.map(({ accuracy }, k) => {
      const all = lab.data.counts.test;
      const shares = [accuracy, ...wilson(accuracy, all)].map((value) => share(value, 2));
      return words().tested(letter(k), Math.round(accuracy * all), all, ...shares);
    }).join(" ");
    showSoon();
  },
  weights: saveZip,
  failed({ noMemory, message }) {
    lab.isRunning = false;
    say(noMemory ? words().noMemory : words().failed(message));
  },
};

function speak() {
  const { views } = lab;
  const epoch = views[0].epochs.length;
  const shares = views.map(({ epochs }) => (epochs.length ? share(epochs.at(-1).val.accuracy) : words().none)).join(", ");
  const ended = views.every((view) => view.ended) ? ` ${words().ended}` : "";
  byId("spoken").textContent = words().epochDone(epoch, shares) + ended;
}

// ---- what is shown: anew once a frame at most, and in pieces, so that no frame takes long

let painters = [];
let isStale = false; // the pieces that are still to be painted have something newer to show

function showSoon() {
  isStale = painters.length > 0;
  if (isStale) return;
  painters = [showState, ...Object.entries(PAINTERS).map(([room, paint]) => () => isOpen(room) && paint())];
  requestAnimationFrame(paintSome);
}

function paintSome() {
  const until = performance.now() + 8; // ms
  while (painters.length && performance.now() < until) painters.shift()();
  if (painters.length) requestAnimationFrame(paintSome);
  else if (isStale) showSoon();
}

const isOpen = (id) => byId(id).open && (byId(id).parentElement.closest("details")?.open ?? true);

const PAINTERS = {
  training: drawCurves, gradients: showGradients, units: showUnits, architecture: showNetworks, kernels: showKernels,
  performance: showPerformance,
};

function showState() {
  const [view] = lab.views;
  if (!view?.perEpoch) return void (painters = []); // nothing is told yet
  enableButtons();
  const train = lab.isRunning ? words().pause : language === "it" ? ITALIAN.train : ENGLISH["data-ttrain"];
  setText(byId("train"), train);
  const stop = lab.views.some(({ ended }) => ended === "diverged") ? `. ${words().diverged}` : "";
  setText(byId("where"), words().where(view, lab.settings[0]) + stop);
  showAdvice();
  if (lab.stage >= 0) currentMission().measure(lab); // which may remember what a stage came to
}

function showPerformance() {
  showMatrix();
  const isReady = !lab.isRunning && lab.views[0].epochs.length > 0;
  byId("test").disabled = !isReady || lab.settings[0].fold !== null;
  for (const [k, button] of [...byId("zips").children].entries()) {
    const isWhole = lab.settings[k].trainImages === null && lab.settings[k].fold === null;
    button.disabled = !isReady || !isWhole;
    button.title = isWhole ? "" : words().noZip;
  }
  setText(byId("looks"), words().looks(lab.looks));
}

// ---- missions

const currentMission = () => MISSIONS[lab.mission - 1];

function showMission() {
  const mission = currentMission();
  const options = [words().noMission, ...MISSION_TEXTS[language].map(({ title }) => title)];
  byId("missions").replaceChildren(...options.map((text, value) => make("option", { text, value })));
  byId("missions").value = lab.mission;
  byId("mission").hidden = !mission;
  byId("no-mission").hidden = Boolean(mission);
  byId("answer").hidden = true;
  if (!mission) return;
  for (const id of ["says", "look", "question"]) byId(id).textContent = MISSION_TEXTS[language][lab.mission - 1][id];
  byId("stages").replaceChildren(...mission.stages.map(({ label, networks }, k) => {
    const button = make("button", { type: "button", text: label[language], className: k ? "" : "main" });
    button.onclick = () => {
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

// Show a mission, and begin with these settings; without any, with those of its first stage.
function chooseMission(number, settings) {
  Object.assign(lab, { mission: number, memory: {} });
  showMission();
  const first = currentMission()?.stages[0]?.networks.map(settingsOf);
  const own = settings ?? first ?? (lab.settings.length === 1 ? null : [settingsOf({})]);
  if (own) begin(own);
  else history.replaceState(null, "", addressOf());
  lab.before = null;
  if (currentMission()) openRooms(currentMission().rooms);
  watch();
}

function reveal() {
  const mission = currentMission();
  const isSet = lab.stage >= 0 || !mission.stages.length;
  const measured = isSet && mission.measure(lab);
  byId("answer").hidden = false;
  byId("answer").textContent = measured ? MISSION_TEXTS[language][lab.mission - 1].answer(measured) : words().first;
}

// Restore what the address says.
function restore() {
  const found = readAddress(location.hash);
  chooseMission(found?.mission ?? 0, found?.settings);
  if (!found) say(words().badLink);
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
    const isCopied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
    say(isCopied ? words().copied : location.href);
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
  // Anywhere: a browser that opens what is dropped would leave the page.
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    byId("architecture").open = true;
    readFile(event.dataTransfer.files[0]);
  });
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
  const isRevealed = !byId("answer").hidden;
  translate(to);
  showMission();
  if (!lab.settings.length) return; // nothing is loaded yet
  if (isRevealed) reveal();
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
  worker.onerror = ({ message, type }) => say(words().failed(message ?? type));
  const { wasm, images, labels, levels, counts, classNames } = lab.data;
  tell("load", { wasm, images, labels, levels, counts, classNames });
  for (const name of ["wasm", "images"]) delete lab.data[name];
  listen();
  speakLanguage(navigator.language.startsWith("it") ? "it" : "en");
}

start();
