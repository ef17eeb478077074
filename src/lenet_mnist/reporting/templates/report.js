// The matrix works by links and :target alone. With this script the digits open in place, the arrow keys walk
// through the cells, and Escape closes.
"use strict";
const root = document.documentElement;
const cells = [...document.querySelectorAll(".matrix a")];
let opened = null;

function panelOf(cell) {
  return document.getElementById(cell.hash.slice(1));
}

// Opens a cell in place of the one that is open; without a cell, closes that, and goes back to it.
function show(cell) {
  const last = opened;
  opened = cell || null;
  for (const each of [last, opened]) {
    each?.setAttribute("aria-expanded", String(each === opened));
    if (each) panelOf(each).classList.toggle("is-open", each === opened);
  }
  if (opened) panelOf(opened).scrollIntoView({ block: "nearest" });
  else last?.focus();
}

function showTarget() {
  const cell = cells.find((each) => each.hash === location.hash);
  if (cell) show(cell);
}

// The next cell that opens, in one direction; the row's name is no cell, and an empty one is passed over.
function neighbour(place, right, down) {
  const row = place.parentElement.parentElement.rows[place.parentElement.sectionRowIndex + down];
  const next = row && row.cells[place.cellIndex + right];
  return next ? next.querySelector("a") || neighbour(next, right, down) : null;
}

root.classList.add("scripted");
for (const cell of cells) {
  cell.setAttribute("aria-expanded", "false");
  cell.setAttribute("aria-controls", cell.hash.slice(1));
}
document.addEventListener("click", (event) => {
  const cell = event.target.closest(".matrix a");
  if (cell) {
    event.preventDefault();
    show(cell === opened ? null : cell);
  } else if (event.target.closest(".close")) {
    event.preventDefault();
    show(null);
  }
});
document.addEventListener("keydown", (event) => {
  const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  const cell = document.activeElement.closest(".matrix a");
  if (event.key === "Escape" && opened) {
    show(null);
  } else if (cell && event.key in steps) {
    const next = neighbour(cell.parentElement, ...steps[event.key]);
    if (next) {
      event.preventDefault();
      next.focus();
    }
  }
});
addEventListener("hashchange", showTarget);
showTarget();
