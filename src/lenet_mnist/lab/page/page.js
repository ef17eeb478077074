// The page: starts the worker, and goes from what the student does to what is shown. Names from data are only set as text.
"use strict";

const MISSIONS = DATA.missions;
const ROOMS = ["architecture", "data-room", "training", "performance", "table", "kernels", "gradients", "units"];
const PAINTERS = {
  training: drawCurves, gradients: showGradients, units: showUnits, architecture: showNetworks, kernels: showKernels,
  performance: showPerformance,
};
const LONG_AGO = 20; // updates: a curve that is worth to be kept beside the next one

// All that the page knows. `settings` and `views` have one entry for each network; `experiment` and
// `runs` count what the worker was told, so that older reports are known.
const lab = {
  pixels: null, labels: null, perClass: [], digit: null, settings: [], views: [], experiment: 0, runs: 0, current: 0,
  isRunning: false, before: null, mission: 0, stage: -1, memory: {}, looks: 0,
};
let worker = null;
const isDeepEqual = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const tell = (type, rest = {}) => worker.postMessage({ type, ...rest });

// Begin an experiment anew, from the starting weights of its seeds.
function begin(settings) {
  say("");
  if (lab.views[0]?.step > LONG_AGO) lab.before = lab.views[0].means;
  Object.assign(lab, { settings, views: settings.map(emptyView), isRunning: false, experiment: lab.experiment + 1 });
  lab.current = Math.min(lab.current, settings.length - 1);
  tell("begin", { settings, id: lab.experiment });
  enableButtons();
  lab.stage = stages().findIndex((each) => isDeepEqual(each.networks.map(settingsOf), settings));
  byId("sweep").hidden = new Set(settings.map(({ rate }) => rate)).size <= 2;
  byId("command").textContent = settings.every(({ fold }) => fold !== null) ? commandOf(settings[0]) : settings.map(commandOf).join("\n");
  byId("tested").textContent = "";
  byId("cell").replaceChildren();
  showZips();
  showForm();
  history.replaceState(null, "", addressOf());
  showSoon();
}

function showZips() {
  byId("zips").replaceChildren(...lab.settings.slice(0, 2).map((_, number) => {
    const text = words("zip", { name: letter(number) });
    return make("button", { type: "button", text, onclick: () => tell("weights", { number }) });
  }));
}

function enableButtons() {
  const isDone = lab.views.every(({ ended }) => ended);
  byId("reset").disabled = false;
  byId("train").disabled = isDone;
  for (const id of ["step", "epoch"]) byId(id).disabled = isDone || lab.isRunning;
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
    Object.assign(lab, { pixels, labels, perClass: DATA.classNames.map(() => [0, 0, 0]) });
    const { train, val } = DATA.counts;
    labels.forEach((label, k) => (lab.perClass[label][(k >= train) + (k >= train + val)] += 1));
    showSamples();
    showTables();
    chooseDigit();
    byId("spoken").textContent = words("ready");
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
    if (wasRunning && !lab.isRunning) speakOfEpoch();
    showSoon();
  },
  drawn({ pixels, isFile }) {
    if (pixels) lab.digit = { pixels, label: null };
    if (isFile) say(pixels ? "" : words("noInk"));
    watch();
  },
  tested({ results }) {
    lab.looks += 1;
    byId("tested").textContent = results.map(({ accuracy }, k) => {
      const all = DATA.counts.test;
      const [low, high] = wilson(accuracy, all).map((end) => share(end, 2));
      const counted = { right: n(Math.round(accuracy * all)), all: n(all), share: share(accuracy, 2), low, high };
      return words("tested", { name: letter(k), ...counted });
    }).join(" ");
    showSoon();
  },
  weights: saveZip,
  failed({ noMemory, message }) {
    lab.isRunning = false;
    say(noMemory ? words("noMemory") : words("failed", { what: message }));
  },
};

function speakOfEpoch() {
  const shares = lab.views.map(({ epochs }) => (epochs.length ? share(epochs.at(-1).val.accuracy) : words("none")));
  const ended = lab.views.every((view) => view.ended) ? ` ${words("ended")}` : "";
  byId("spoken").textContent = words("epochDone", { k: lab.views[0].epochs.length, shares: shares.join(", ") }) + ended;
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

function showState() {
  const [view] = lab.views;
  if (!view?.perEpoch) return void (painters = []); // nothing is told yet
  enableButtons();
  setText(byId("train"), words(lab.isRunning ? "pause" : "train"));
  const { epochs } = lab.settings[0];
  const [step, steps] = [n(view.step), n(epochs * view.perEpoch)];
  const where = words("where", { step, steps, epoch: Math.min(view.epoch, epochs), epochs, rate: short(view.rate) });
  setText(byId("where"), where + (lab.views.some(({ ended }) => ended === "diverged") ? `. ${words("diverged")}` : ""));
  showAdvice();
  if (lab.stage >= 0) measured(); // which may remember what a stage came to
}

function showPerformance() {
  showMatrix();
  const isReady = !lab.isRunning && lab.views[0].epochs.length > 0;
  byId("test").disabled = !isReady || lab.settings.some(({ fold }) => fold !== null);
  for (const [k, button] of [...byId("zips").children].entries()) {
    const isWhole = lab.settings[k].trainImages === null && lab.settings[k].fold === null;
    button.disabled = !isReady || !isWhole;
    button.title = isWhole ? "" : words("noZip");
  }
  setText(byId("looks"), words("looks", { k: lab.looks }));
}

// ---- missions

const currentMission = () => MISSIONS[lab.mission - 1];
const stages = () => currentMission()?.stages ?? [];
const measured = () => MEASURES[lab.mission - 1](lab);

function showMission() {
  const mission = currentMission();
  const options = [words("free"), ...MISSIONS.map(({ title }) => words(title))];
  byId("missions").replaceChildren(...options.map((text, value) => make("option", { text, value })));
  byId("missions").value = lab.mission;
  byId("mission").hidden = !mission;
  byId("no-mission").hidden = Boolean(mission);
  byId("answer").hidden = true;
  for (const id of mission ? ["says", "look", "question"] : []) byId(id).textContent = words(mission[id]);
  byId("stages").replaceChildren(...stages().map(({ label, networks }, k) => {
    const onclick = () => {
      begin(networks.map(settingsOf));
      lab.before = null;
      openRooms(mission.rooms);
      run("end");
    };
    return make("button", { type: "button", text: words(label), className: k ? "" : "main", onclick });
  }));
}

function openRooms(rooms) {
  for (const id of ROOMS) byId(id).open = rooms.includes(id);
}

// Show a mission, and begin with these settings; without any, with those of its first stage.
function chooseMission(number, settings) {
  Object.assign(lab, { mission: number, memory: {} });
  showMission();
  const own = settings ?? stages()[0]?.networks.map(settingsOf) ?? (lab.settings.length === 1 ? null : [settingsOf({})]);
  if (own) begin(own);
  else history.replaceState(null, "", addressOf());
  lab.before = null;
  if (currentMission()) openRooms(currentMission().rooms);
  watch();
}

function reveal() {
  const values = lab.stage >= 0 || !stages().length ? measured() : null;
  byId("answer").hidden = false;
  byId("answer").textContent = values ? words(currentMission().answer, values) : words("first");
}

// Restore what the address says.
function restore() {
  const found = readAddress(location.hash);
  chooseMission(found?.mission ?? 0, found?.settings);
  if (!found) say(words("badLink"));
}

// ---- what the student does

function watch() {
  if (!lab.digit) return; // nothing is loaded yet
  tell("watch", { picture: isOpen("architecture") ? lab.digit.pixels : null, probe: isOpen("units") });
}

function chooseDigit() {
  const index = DATA.counts.train + Math.floor(Math.random() * DATA.counts.val);
  lab.digit = { pixels: pixelsOf(index).slice(), label: lab.labels[index] };
  watch();
}

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
    say(isCopied ? words("copied") : location.href);
  });
  on("draw", ({ target }) => {
    byId("drawing").hidden = !byId("drawing").hidden;
    target.ariaExpanded = String(!byId("drawing").hidden);
  });
  new Paper((grey, isFile) => {
    if (isFile) byId("architecture").open = true;
    tell("draw", { grey, isFile });
  });
  for (const id of ROOMS) on(id, () => (watch(), showSoon()), "toggle");
  listenToForm(begin);
  addEventListener("resize", showSoon);
  addEventListener("hashchange", restore);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showSoon);
}

// Show anew what depends on the language.
function showWords() {
  const isRevealed = !byId("answer").hidden;
  showMission();
  if (!lab.settings.length) return; // nothing is loaded yet
  if (isRevealed) reveal();
  showTables();
  showForm();
  showZips();
  showSoon();
}

function start() {
  makeFields();
  speak(showWords);
  if (!hasVectors()) return say(words("noSimd"));
  const source = new Blob([byId("worker").textContent], { type: "text/javascript" });
  worker = new Worker(URL.createObjectURL(source));
  worker.onmessage = ({ data: { type, ...rest } }) => told[type](rest);
  worker.onerror = ({ message, type }) => say(words("failed", { what: message ?? type }));
  const { wasm, images, labels, levels, counts, classNames } = DATA;
  tell("load", { wasm, images, labels, levels, counts, classNames });
  for (const name of ["wasm", "images"]) delete DATA[name];
  listen();
}

start();
