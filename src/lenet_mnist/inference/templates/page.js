// The page to draw on: the lab without training. Each network says what it reads.
"use strict";

let engine = null;
let networks = [];
let seen = null; // 28 x 28 pixels; null of an empty paper
let sections = [];

function read(grey, isFile) {
  seen = engine.prepare(grey);
  say(isFile && !seen ? words("noInk") : "");
  show();
}

function show() {
  const answers = sections.map((section, k) => section(networks[k], seen ?? new Uint8Array(PIXELS), !seen));
  byId("short-answer").textContent = seen ? answers.join(" / ") : "";
}

// Add a network's section to the page; return the function that shows its answer.
function sectionOf({ name, activation, epoch, classNames }) {
  const section = make("section", { className: "network", parent: byId("networks") });
  make("h2", { text: name, parent: section });
  make("p", { className: "small", text: words("facts", { activation, epoch }), parent: section });
  const showLayers = layersIn(section, activation, classNames);
  section.querySelector(".says").ariaLive = "polite";
  return ({ network, levels }, pixels, isEmpty) => {
    const sentence = (answer, probability) => (isEmpty ? "–" : `${answer}, ${probability}`);
    return showLayers(pixels, network.layers(pixels, levels), sentence, isEmpty);
  };
}

function fill() {
  if (!engine) return; // not open yet
  byId("networks").replaceChildren();
  sections = DATA.networks.map(sectionOf);
  show();
}

async function start() {
  speak(fill);
  if (!hasVectors()) return say(words("noSimd"));
  engine = await openEngine(bytesOf(DATA.wasm));
  networks = DATA.networks.map(({ activation, classNames, weights, levels }) => {
    const network = new Network(engine, activation, classNames.length);
    network.weights.set(new Float32Array(bytesOf(weights).buffer));
    return { network, levels: engine.keep(bytesOf(levels)) };
  });
  fill();
  new Paper(read);
}

start().catch((error) => say(words("failed", { what: error.message })));
