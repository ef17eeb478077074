// The page: shows each network's answer to what is drawn. Text from a run is only ever set as text.
"use strict";

function show() {
  const steps = prepare(paper.grey());
  const seen = steps?.seen ?? picture(IMAGE_SIZE, IMAGE_SIZE, () => 0);
  const canvas = document.getElementById("seen");
  drawMaps(canvas, { channels: 1, size: IMAGE_SIZE, values: seen.values }, [0, 255], 1);
  canvas.ariaLabel = steps ? "Your digit in 28 by 28 pixels" : "Nothing yet: 28 by 28 empty pixels";
  const answers = views.map((each) => each(seen, steps !== null));
  document.getElementById("short-answer").textContent = steps ? answers.join(" / ") : "";
}

// Add a network to the page; return the function that shows, and returns, its answer to a picture.
function view(network) {
  const section = document.getElementById("network").content.cloneNode(true).firstElementChild;
  const part = (selector) => section.querySelector(selector);
  part("h2").textContent = network.name;
  part(".facts").textContent = `${network.activation}, weights of epoch ${network.epoch}`;
  part(".scale").textContent = SCALES[network.activation].words;
  const rows = network.classNames.map((name) => barRow(name, part(".bars")));
  document.getElementById("networks").append(section);

  return (seen, hasInk) => {
    const layers = forward(network, seen);
    const probabilities = softmax(layers.logits);
    const first = probabilities.indexOf(Math.max(...probabilities));
    rows.forEach((row, k) => row(hasInk ? probabilities[k] : 0, hasInk && k === first));
    part(".answer").textContent = hasInk ? `${network.classNames[first]}, ${perCent(probabilities[first])}` : "–";
    for (const [name, columns] of [["c1", 3], ["c3", 8]]) {
      drawMaps(part(`.${name}`), layers[name], SCALES[network.activation].range(layers[name].values), columns);
      part(`.${name}`).ariaLabel = `${layers[name].channels} feature maps of ${name.toUpperCase()}, dark where they are active`;
    }
    return network.classNames[first];
  };
}

const networks = JSON.parse(document.getElementById("data").textContent).networks.map(unpacked);
const views = networks.map(view);
const penState = document.getElementById("pen-state");
const say = (isDown) => (penState.textContent = isDown ? "pen down" : "pen lifted");
const paper = new Paper(document.getElementById("paper"), document.getElementById("pen"), say, show);
document.getElementById("clear").addEventListener("click", () => paper.clear());
paper.clear();
