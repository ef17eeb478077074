// The settings of the networks: in the form, and in the page's address, which restores an experiment.
"use strict";

const isWhole = (value, least, most) => Number.isInteger(value) && value >= least && value <= most;
const isBetween = (value, least, most) => typeof value === "number" && value >= least && value <= most;
const isOneOf = (...names) => (value) => names.includes(value);
const MOST_NETWORKS = 8;

// What each setting may be.
const ALLOWED = {
  activation: isOneOf("relu", "sigmoid", "tanh"),
  rate: (value) => isBetween(value, 1e-5, 10),
  batchSize: (value) => isWhole(value, 1, 256),
  optimizer: isOneOf("sgd", "adam", "adamw"),
  schedule: isOneOf("constant", "linear", "cosine", "one-cycle", "plateau"),
  epochs: (value) => isWhole(value, 1, 500),
  seed: (value) => isWhole(value, 0, Number.MAX_SAFE_INTEGER),
  momentum: (value) => isBetween(value, 0, 0.999),
  nesterov: isOneOf(false, true),
  weightDecay: (value) => isBetween(value, 0, 10),
  warmup: (value) => isBetween(value, 0, 0.99),
  labelSmoothing: (value) => isBetween(value, 0, 0.99),
  trainImages: (value) => value === null || isWhole(value, 100, 1e6),
  fold: (value) => value === null || isWhole(value, 0, 4),
};

// The recipe of an activation, with other settings where they are given.
function settingsOf({ activation = "relu", ...others }) {
  return { ...lab.data.recipes[activation], trainImages: null, fold: null, ...others, activation };
}

const form = () => byId("controls");

function showForm() {
  const { settings } = lab;
  const current = settings[Math.min(lab.current, settings.length - 1)];
  for (const [name, value] of Object.entries(current)) {
    const field = form().elements[name];
    if (field) field.value = value ?? "";
  }
  byId("slider").value = Math.log10(current.rate);
  byId("slider").ariaValueText = short(current.rate);
  byId("second").checked = settings.length === 2;
  byId("second").closest("p").hidden = settings.length > 2;
  byId("whose").hidden = settings.length !== 2;
  byId("whose").replaceChildren(...settings.slice(0, 2).map((each, k) => {
    const button = make("button", { type: "button", text: nameOf(each, k), ariaPressed: String(k === lab.current) });
    button.onclick = () => {
      lab.current = k;
      showForm();
      byId("whose").children[k].focus();
    };
    return button;
  }));
}

// Read the field that has changed; return the settings with it, or null if it is not allowed.
function readField({ name, value, validity }) {
  const current = lab.settings[Math.min(lab.current, lab.settings.length - 1)];
  const isNumber = !["activation", "optimizer", "schedule"].includes(name);
  const read = name === "trainImages" && value === "" && validity.valid ? null : isNumber ? Number(value) : value;
  if (!validity.valid || !ALLOWED[name](read)) return null;
  const changed = { ...current, [name]: read };
  if (lab.settings.length > 2) return [{ ...changed, fold: null }];
  return lab.settings.map((each) => (each === current ? changed : each));
}

function listenToForm(begin) {
  form().addEventListener("submit", (event) => event.preventDefault());
  form().addEventListener("change", ({ target }) => {
    if (!(target.name in ALLOWED)) return;
    const settings = readField(target);
    if (!settings) say(words().badField);
    else begin(settings);
  });
  const rate = () => Number((10 ** byId("slider").value).toPrecision(2));
  byId("slider").addEventListener("input", ({ target }) => {
    form().elements.rate.value = rate();
    target.ariaValueText = short(rate());
  });
  const field = () => ({ name: "rate", value: rate(), validity: { valid: true } });
  byId("slider").addEventListener("change", () => begin(readField(field())));
  byId("second").addEventListener("change", ({ target }) => {
    lab.current = target.checked ? 1 : 0;
    const [first] = lab.settings;
    if (!target.checked) return begin([first]);
    const activation = first.activation === "sigmoid" ? "relu" : "sigmoid";
    begin([first, settingsOf({ activation, epochs: first.epochs, seed: first.seed })]);
  });
  byId("recipe").addEventListener("click", () => {
    const { activation } = lab.settings[lab.current] ?? lab.settings[0];
    const own = settingsOf({ activation });
    begin(lab.settings.length > 2 ? [own] : lab.settings.map((each, k) => (k === lab.current ? own : each)));
  });
}

// ---- the address

// What differs from the recipe, and of a further network from the first: #mission=6&activation=relu&2.activation=sigmoid
function addressOf() {
  const parts = new URLSearchParams();
  if (lab.mission) parts.set("mission", lab.mission);
  lab.settings.forEach((settings, k) => {
    const usual = settingsOf({ activation: settings.activation });
    for (const [name, value] of Object.entries(settings)) {
      if (name === "activation" || value !== usual[name]) parts.set(k ? `${k + 1}.${name}` : name, String(value));
    }
  });
  return `#${parts}`;
}

function valueOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text; // a word
  }
}

// Return { mission, settings } of an address; null if it is damaged.
function readAddress(address) {
  const given = [];
  let mission = 0;
  for (const [key, text] of new URLSearchParams(address.slice(1))) {
    const value = valueOf(text);
    if (key === "mission") {
      if (!isWhole(value, 1, MISSIONS.length)) return null;
      mission = value;
      continue;
    }
    const [, number, name] = /^(?:([2-8])\.)?(\w+)$/.exec(key) ?? [];
    if (!Object.hasOwn(ALLOWED, name ?? "") || !ALLOWED[name](value)) return null;
    (given[(number ?? 1) - 1] ??= {})[name] = value;
  }
  if (given.length > MOST_NETWORKS || given.includes(undefined)) return null;
  return { mission, settings: given.length ? given.map(settingsOf) : null };
}
