// What the page says in both languages. English of what stands in lab.html is taken from there.
"use strict";

const ITALIAN = {
  title: "Laboratorio LeNet",
  lead: "LeNet impara a leggere mentre la si guarda. Tutto avviene in questa pagina: nulla viene inviato.",
  noMission: "Tredici missioni, una per ogni punto della lezione. Oppure si preme Addestra.",
  missions: "Missioni", next: "Prossima missione", look: "Da guardare:", question: "Domanda:", reveal: "Mostra la risposta",
  experiment: "Esperimento", whose: "Impostazioni di", activation: "Attivazione", rate: "Learning rate",
  rateSlider: "Learning rate, logaritmico", more: "Altre impostazioni", batchSize: "Batch", epochs: "Epoche",
  schedule: "Schedule", warmup: "Warm-up, quota", trainImages: "Immagini di training",
  recipe: "Le impostazioni della ricetta", second: "Una seconda rete accanto", train: "Addestra", pause: "Pausa",
  step: "Un aggiornamento", epoch: "Un'epoca", reset: "Torna all'inizio",
  architecture: "1 Architettura: la rete e ciò che vede", another: "Un'altra cifra", draw: "Disegnane una",
  paper: "Foglio su cui disegnare una cifra", clear: "Cancella", file: "Apri un'immagine",
  keys: "Si disegna con mouse, dito o penna, o si trascina un'immagine. Con la tastiera: le frecce muovono la penna (con Maiusc a piccoli passi), Spazio la abbassa o la alza, Canc cancella il foglio.",
  table: "Strati, pesi e calcoli", kernels: "I kernel di C1 mentre si formano",
  kernelColours: "Arancio: pesi positivi; blu: negativi; bianco: zero.", dataRoom: "2 Dati: le immagini",
  others: "Altre immagini", training: "3 Addestramento", nothing: "Premendo Addestra, qui si disegna la loss.",
  loss: "Loss: linea di training, punti di validation",
  accuracy: "Accuratezza sulle immagini di validation", sweep: "Loss di validation per learning rate",
  gradients: "Gradiente di ogni strato", units: "Neuroni saturi e spenti",
  unitsNote: "Su 512 immagini di training. Piatto: la pendenza dell'attivazione è meno di un ventesimo della massima. Spento: piatto su ogni immagine.",
  performance: "4 Prestazioni: errori, test, e che cosa portare via",
  matrix: "Matrice di confusione delle immagini di validation: le righe sono le classi vere",
  testNote: "Le immagini di test sono per la fine: non decidono nulla, e ogni sguardo è contato.",
  test: "Conta sulle immagini di test", away: "Da portare via", png: "Curva come PNG", csv: "Curva come CSV",
  link: "Copia un link a questo esperimento", command: "Lo stesso dalla riga di comando:",
};

const WORDS = {
  en: {
    pause: "Pause", noMission: "Free: no mission", all: "all",
    where: (v, { epochs }) => `update ${n(v.step)} of ${n(epochs * v.perEpoch)}, epoch ${Math.min(v.epoch, epochs)} of ${epochs}, rate ${short(v.rate)}`,
    ready: "Ready.", epochDone: (k, shares) => `Epoch ${k}: validation accuracy ${shares}.`, ended: "All epochs are done.",
    diverged: "Stopped: the loss or the gradient was no longer a finite number. Lower the learning rate.",
    changed: "Back at the start, with the new settings.",
    noSimd: "This browser cannot run the lab: it has no WebAssembly SIMD. Chrome 91, Edge 91, Firefox 89, Safari 16.4 and all later ones have it.",
    noMemory: "The browser refuses the memory. Close other tabs, or take fewer images or one network.",
    failed: (what) => `Something went wrong: ${what}`, badLink: "The link is damaged, and was ignored.",
    badField: "Not changed: a setting is empty or out of its range.",
    noPicture: "This file is no picture that the browser can read.", noInk: "There is no digit in it: no ink stands out from its paper.",
    penDown: "pen down", penUp: "pen lifted", copied: "The link is copied.", zip: (name) => `Network ${name} as zip`,
    noZip: "With all training images only: the zip must say on what it was trained.",
    input: "input", own: "yours", isClass: (name) => `it is ${name}`, says: (name, share) => `Answer: ${name}, ${share}`,
    weights: (k) => `${n(k)} weights`, tableHead: ["layer", "output", "weights", "multiply-adds"], sum: "together",
    partsHead: ["class", "training", "validation", "test"], update: "updates", epochs: "epochs", rate: "learning rate",
    norms: "norm of the gradient", flat: "flat", dead: "dead", maps: (name, k) => `${k} maps of ${name}`,
    chart: (what, name, value) => `${what}: ${name} ${value}`, none: "none yet", before: "before",
    cell: (count, truth, answer) => `${count} times ${truth} read as ${answer}`, noMatrix: "After the first epoch, the matrix stands here.",
    looks: (k) => `looks at the test images: ${k}`,
    tested: (name, right, all, share, low, high) => `Network ${name}: ${n(right)} of ${n(all)} right, ${share} (95 % interval ${low} to ${high}).`,
    first: "Set the stage and train first: the answer is made of what is measured here.",
    advice: {
      diverged: "The numbers became too large to count. Lower the learning rate.",
      thrownUp: (x) => `The loss was thrown up to ${x}, far above chance level. It oscillates: lower the learning rate.`,
      dead: (x) => `The loss ended at ${x}, chance level, and no gradient reaches C1: units have died. It does not fall: lower the learning rate.`,
      saturated: (x) => `The loss is ${x}, and hardly any gradient reaches C1: units are saturated. Lower the learning rate.`,
      doesNotFall: (x) => `The loss does not fall: it rose, fell, and ended at ${x}. Lower the learning rate.`,
      stays: (x) => `The loss stays at chance level; the gradient at C1 is ${x} times smaller than the whole. Raise the learning rate, or train longer.`,
      slowly: (x) => `The loss falls slowly, by ${x} in all. Raise the learning rate.`,
      oscillates: (x) => `The loss oscillates: it rose to ${x} times an earlier value. Lower the learning rate.`,
      falls: "The loss falls; the curve says no more about the learning rate.",
      fine: "The loss falls well. Keep the learning rate.",
    },
  },
  it: {
    pause: "Pausa", noMission: "Libero: nessuna missione", all: "tutte",
    where: (v, { epochs }) => `aggiornamento ${n(v.step)} di ${n(epochs * v.perEpoch)}, epoca ${Math.min(v.epoch, epochs)} di ${epochs}, learning rate ${short(v.rate)}`,
    ready: "Pronto.", epochDone: (k, shares) => `Epoca ${k}: accuratezza di validation ${shares}.`, ended: "Tutte le epoche sono finite.",
    diverged: "Interrotto: la loss o il gradiente non era più un numero finito. Diminuire il learning rate.",
    changed: "Di nuovo all'inizio, con le nuove impostazioni.",
    noSimd: "Questo browser non può eseguire il laboratorio: non ha WebAssembly SIMD. Lo hanno Chrome 91, Edge 91, Firefox 89, Safari 16.4 e tutti i successivi.",
    noMemory: "Il browser rifiuta la memoria. Chiudere altre schede, o prendere meno immagini o una rete sola.",
    failed: (what) => `Qualcosa è andato storto: ${what}`, badLink: "Il link è danneggiato, ed è stato ignorato.",
    badField: "Non cambiato: un'impostazione è vuota o fuori dal suo intervallo.",
    noPicture: "Questo file non è un'immagine che il browser sa leggere.", noInk: "Non contiene una cifra: nessun tratto risalta sul foglio.",
    penDown: "penna abbassata", penUp: "penna alzata", copied: "Il link è copiato.", zip: (name) => `Rete ${name} come zip`,
    noZip: "Solo con tutte le immagini di training: lo zip deve dire su che cosa è stata addestrata.",
    input: "ingresso", own: "tua", isClass: (name) => `è ${name}`, says: (name, share) => `Risposta: ${name}, ${share}`,
    weights: (k) => `${n(k)} pesi`, tableHead: ["strato", "uscita", "pesi", "moltiplicazioni"], sum: "insieme",
    partsHead: ["classe", "training", "validation", "test"], update: "aggiornamenti", epochs: "epoche", rate: "learning rate",
    norms: "norma del gradiente", flat: "piatti", dead: "spenti", maps: (name, k) => `${k} mappe di ${name}`,
    chart: (what, name, value) => `${what}: ${name} ${value}`, none: "ancora nulla", before: "prima",
    cell: (count, truth, answer) => `${count} volte ${truth} letto come ${answer}`, noMatrix: "Dopo la prima epoca, qui c'è la matrice.",
    looks: (k) => `sguardi alle immagini di test: ${k}`,
    tested: (name, right, all, share, low, high) => `Rete ${name}: ${n(right)} giuste su ${n(all)}, ${share} (intervallo al 95 %: da ${low} a ${high}).`,
    first: "Prima si prepara la scena e si addestra: la risposta è fatta di ciò che si misura qui.",
    advice: {
      diverged: "I numeri sono diventati troppo grandi. Diminuire il learning rate.",
      thrownUp: (x) => `La loss è balzata a ${x}, ben sopra il livello del caso. Oscilla: diminuire il learning rate.`,
      dead: (x) => `La loss finisce a ${x}, il livello del caso, e nessun gradiente arriva a C1: i neuroni si sono spenti. Non decresce: diminuire il learning rate.`,
      saturated: (x) => `La loss è ${x}, e quasi nessun gradiente arriva a C1: i neuroni sono saturi. Diminuire il learning rate.`,
      doesNotFall: (x) => `La loss non decresce: sale, scende, e finisce a ${x}. Diminuire il learning rate.`,
      stays: (x) => `La loss resta al livello del caso; il gradiente in C1 è ${x} volte più piccolo di quello intero. Aumentare il learning rate, o addestrare più a lungo.`,
      slowly: (x) => `La loss decresce lentamente, di ${x} in tutto. Aumentare il learning rate.`,
      oscillates: (x) => `La loss oscilla: è risalita a ${x} volte un valore precedente. Diminuire il learning rate.`,
      falls: "La loss decresce; sul learning rate la curva non dice di più.",
      fine: "La loss decresce bene. Il learning rate va bene.",
    },
  },
};

let language = "en";
const words = () => WORDS[language];
const n = (value) => value.toLocaleString(language);
const short = (value) => Number(value).toLocaleString(language, { maximumSignificantDigits: 3, useGrouping: false });
const share = (value, digits = 1) => `${(100 * value).toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits })} %`;

// Put the language into all that stands in the page; its English is kept the first time.
const ENGLISH = {};
function translate(to) {
  language = document.documentElement.lang = to;
  const each = (attribute, read, write) => {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      const key = element.getAttribute(attribute);
      ENGLISH[attribute + key] ??= read(element);
      write(element, to === "it" ? ITALIAN[key] : ENGLISH[attribute + key]);
    }
  };
  each("data-t", (element) => element.textContent, (element, text) => (element.textContent = text));
  each("data-t-label", (element) => element.ariaLabel, (element, text) => (element.ariaLabel = text));
  document.title = document.querySelector("h1").textContent;
  for (const button of document.querySelectorAll("[data-language]")) {
    button.ariaPressed = button.dataset.language === to;
  }
}
