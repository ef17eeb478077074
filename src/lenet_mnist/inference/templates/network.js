// LeNet's forward pass, as in model/engines.py, with the whole maps of the convolutions, as the lecture draws them.
"use strict";

const KERNEL = 5;
const ACTIVATIONS = {
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
  relu: (x) => Math.max(0, x),
};

// Return the network in the page's JSON with its weights as arrays of float32.
function unpacked(packed) {
  const weights = {};
  for (const [name, text] of Object.entries(packed.weights)) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    weights[name] = Float32Array.from({ length: bytes.length / 4 }, (_, k) => view.getFloat32(4 * k, true));
  }
  return { ...packed, weights };
}

// Return the activations of each layer for a picture of 28 x 28 pixels, 0 .. 255.
function forward(network, seen) {
  const { weights, mean, std } = network;
  const activate = ACTIVATIONS[network.activation];
  const layer = (kind, input, name, ...rest) => kind(input, weights[`${name}.weight`], weights[`${name}.bias`], ...rest);
  const activated = (maps) => ({ ...maps, values: maps.values.map(activate) });

  const image = { channels: 1, size: IMAGE_SIZE, values: seen.values.map((pixel) => (pixel / 255 - mean) / std) };
  const c1 = activated(layer(convolution, image, "c1", 2));
  const s2 = maxPool(c1);
  const c3 = activated(layer(convolution, s2, "c3", 0));
  const s4 = maxPool(c3);
  const c5 = layer(dense, s4.values, "c5").map(activate);
  const f6 = layer(dense, c5, "f6").map(activate);
  return { c1, s2, c3, s4, c5, f6, logits: layer(dense, f6, "output") };
}

// Return maps {channels, size, values}: the values channel by channel, row by row.
function maps(channels, size, valueAt) {
  const values = new Float64Array(channels * size * size);
  let place = 0;
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) values[place++] = valueAt(c, i, j);
  }
  return { channels, size, values };
}

// Lecture point 4: F(i, j, c) = b_c + sum over m, n, k of I(i + m, j + n, k) w_c(m, n, k).
function convolution(input, weight, bias, padding) {
  const { channels, size, values } = input;
  const isInside = (place) => place >= 0 && place < size;
  return maps(bias.length, size + 2 * padding - KERNEL + 1, (c, i, j) => {
    let sum = bias[c];
    for (let k = 0; k < channels; k++) {
      for (let m = 0; m < KERNEL; m++) {
        for (let n = 0; n < KERNEL; n++) {
          const [row, column] = [i + m - padding, j + n - padding];
          if (!isInside(row) || !isInside(column)) continue;
          const w = weight[((c * channels + k) * KERNEL + m) * KERNEL + n];
          sum += w * values[(k * size + row) * size + column];
        }
      }
    }
    return sum;
  });
}

// Lecture point 7: the maximum of 2 x 2, every 2 pixels.
function maxPool({ channels, size, values }) {
  return maps(channels, Math.floor(size / 2), (c, i, j) => {
    const at = (m, n) => values[(c * size + 2 * i + m) * size + 2 * j + n];
    return Math.max(at(0, 0), at(0, 1), at(1, 0), at(1, 1));
  });
}

function dense(input, weight, bias) {
  return Float64Array.from(bias, (b, unit) => {
    let sum = b;
    for (let k = 0; k < input.length; k++) sum += weight[unit * input.length + k] * input[k];
    return sum;
  });
}
