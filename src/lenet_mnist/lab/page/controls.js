// The settings of the networks, by the table of exchange.py: in the form, in the page's address, which restores an
// experiment, and in the command that does the same.
"use strict";

const MOST_NETWORKS = 8;
const SETTINGS = DATA.settings; // of each name { key, low, high, whole, choices, optional, flag }
const NUMBER = { type: "number", required: true };

// The value that a text gives a setting, null for all images; undefined if it may not have it.
function valueOf(name, text) {
  const { choices, optional, low, high, whole } = SETTINGS[name];
  if (choices.length) return choices.find((choice) => String(choice) === text);
  if (text === "") return optional ? null : undefined;
  const value = Number(text);
  return value >= low && value <= high && (!whole || Number.isInteger(value)) ? value : undefined;
}

// The recipe of an activation, with other settings where they are given.
function settingsOf({ activation = "relu", ...others }) {
  return { ...DATA.recipes[activation], trainImages: null, fold: null, ...others, activation };
}

const currentSettings = () => lab.settings[lab.current] ?? lab.settings[0];

// The settings of all networks, with some of the current one changed; of many networks only one remains.
function changed(changes) {
  const current = { ...currentSettings(), ...changes };
  if (lab.settings.length > 2) return [{ ...current, fold: null }];
  return lab.settings.map((each, k) => (k === lab.current ? current : each));
}

// Make the fields of all settings that have a name in texts.yaml.
function makeFields() {
  for (const [name, { choices, low: min, high: max, whole, optional }] of Object.entries(SETTINGS)) {
    if (!(name in DATA.texts) || name === "activation") continue;
    const label = make("label", { className: "field", parent: byId(name === "rate" ? "rate-field" : "fields") });
    make("span", { parent: label }).dataset.t = name;
    const step = whole ? 1 : "any";
    if (!choices.length) make("input", { ...NUMBER, name, min, max, step, required: !optional, parent: label });
    else make("select", { name, parent: label }).append(...choices.map((text) => make("option", { text })));
  }
}

function showForm() {
  const { settings } = lab;
  for (const [name, value] of Object.entries(currentSettings())) {
    const field = byId("controls").elements[name];
    if (field) field.value = value ?? "";
  }
  byId("slider").value = Math.log10(currentSettings().rate);
  byId("slider").ariaValueText = short(currentSettings().rate);
  byId("second").checked = settings.length === 2;
  byId("second").closest("p").hidden = settings.length > 2;
  byId("whose").hidden = settings.length !== 2;
  byId("whose").replaceChildren(...settings.slice(0, 2).map((each, k) => {
    const onclick = () => {
      lab.current = k;
      showForm();
      byId("whose").children[k].focus();
    };
    return make("button", { type: "button", text: nameOf(each, k), ariaPressed: String(k === lab.current), onclick });
  }));
}

// Call `begin` with the settings of all networks after the student has changed something.
function listenToForm(begin) {
  const on = (id, event, action) => byId(id).addEventListener(event, action);
  const slided = () => Number((10 ** byId("slider").value).toPrecision(2));
  on("controls", "submit", (event) => event.preventDefault());
  on("controls", "change", ({ target: { name, value: text, validity } }) => {
    if (!(name in SETTINGS)) return;
    const value = validity.valid ? valueOf(name, text) : undefined; // a field whose text is no number is ""
    if (value === undefined) say(words("badField"));
    else begin(changed({ [name]: value }));
  });
  on("slider", "input", ({ target }) => {
    byId("controls").elements.rate.value = slided();
    target.ariaValueText = short(slided());
  });
  on("slider", "change", () => begin(changed({ rate: slided() })));
  on("second", "change", ({ target }) => {
    lab.current = target.checked ? 1 : 0;
    const [first] = lab.settings;
    const activation = first.activation === "sigmoid" ? "relu" : "sigmoid";
    const second = settingsOf({ activation, epochs: first.epochs, seed: first.seed });
    begin(target.checked ? [first, second] : [first]);
  });
  on("recipe", "click", () => begin(changed(settingsOf({ activation: currentSettings().activation }))));
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

// Return { mission, settings } of an address; null if it is damaged.
function readAddress(address) {
  const given = [];
  let mission = 0;
  for (const [key, text] of new URLSearchParams(address.slice(1))) {
    if (key === "mission" && MISSIONS[text - 1]) {
      mission = Number(text);
      continue;
    }
    const [, number, name] = /^(?:([2-8])\.)?(\w+)$/.exec(key) ?? [];
    const value = Object.hasOwn(SETTINGS, name ?? "") ? valueOf(name, text) : undefined;
    if (value === undefined) return null;
    (given[(number ?? 1) - 1] ??= {})[name] = value;
  }
  if (given.length > MOST_NETWORKS || given.includes(undefined)) return null;
  return { mission, settings: given.length ? given.map(settingsOf) : null };
}

// ---- the command line

// The command that trains the same on the same images; of folds, the one that cross-validates. What the recipe relu, which
// is the default, has as well is left out.
function commandOf({ trainImages, fold, ...settings }) {
  const isFold = fold !== null;
  const [flags, sets] = [[], []];
  const quoted = (text) => (/^[\w./-]+$/.test(text) ? text : `'${String(text).replaceAll("'", "'\\''")}'`);
  const images = trainImages === null ? DATA.limit : Math.min(trainImages, DATA.counts.train);
  for (const [name, value] of Object.entries({ ...settings, trainImages: images })) {
    const { flag, key } = SETTINGS[name];
    if (flag && value !== null) flags.push(`${flag} ${value}`);
    else if (!flag && value !== DATA.recipes.relu[name]) sets.push([key, value]);
  }
  sets.push(...Object.entries(DATA.changes).filter(([key]) => !(isFold && key.endsWith("_size"))));
  if (!isFold) sets.push(["training.patience", "null"]);
  const command = isFold ? "lenet cross-validate --folds 5" : "lenet train";
  return [command, ...flags, ...sets.map(([key, value]) => `--set ${key}=${quoted(value)}`)].join(" ");
}
