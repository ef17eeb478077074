// What the page says, in the language that was chosen: texts.yaml and missions.yaml, with numbers as that language has them.
"use strict";

const DATA = JSON.parse(byId("data").textContent);
const LANGUAGES = ["en", "it"];
let language = "en";

// A text of both languages, or the page's by its name, with `values` in place of the {words} in braces.
function words(text, values = {}) {
  const both = Array.isArray(text) ? text : DATA.texts[text];
  const said = both[LANGUAGES.indexOf(language)];
  return typeof said === "string" ? said.replace(/\{(\w+)\}/g, (_, name) => values[name]) : said;
}

const n = (value) => value.toLocaleString(language);
const short = (value) => Number(value).toLocaleString(language, { maximumSignificantDigits: 3, useGrouping: false });
const share = (value, digits = 1) => {
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return `${(100 * value).toLocaleString(language, options)} %`;
};

// Put the language into all that stands in the page.
function translate(to) {
  language = document.documentElement.lang = to;
  for (const element of document.querySelectorAll("[data-t]")) setText(element, words(element.dataset.t));
  for (const element of document.querySelectorAll("[data-label]")) element.ariaLabel = words(element.dataset.label);
  document.title = document.querySelector("h1").textContent;
  for (const button of document.querySelectorAll("[data-language]")) {
    button.ariaPressed = String(button.dataset.language === to);
  }
}

// Begin in the browser's language; `show` is called now, and whenever another is chosen.
function speak(show) {
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => (translate(button.dataset.language), show()));
  }
  translate(navigator.language.startsWith("it") ? "it" : "en");
  show();
}
