// LeNet's forward pass: model/engines.py's layer_outputs, with the convolutions' whole maps, as the lecture draws them.
"use strict";

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

// Return what each layer gives out for a picture of 28 x 28 pixels, 0 .. 255. Maps are {channels, size, values}.
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

// Lecture point 4: F(i, j, c) = b_c + sum over m, n, k of I(i + m, j + n, k) w_c(m, n, k).
function convolution(input, weight, bias, padding) {
  const [kernel, channels] = [5, bias.length];
  const size = input.size + 2 * padding - kernel + 1;
  const values = new Float64Array(channels * size * size);
  let place = 0;
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        let sum = bias[c];
        for (let k = 0; k < input.channels; k++) {
          for (let m = 0; m < kernel; m++) {
            const row = i + m - padding;
            if (row < 0 || row >= input.size) continue;
            for (let n = 0; n < kernel; n++) {
              const column = j + n - padding;
              if (column < 0 || column >= input.size) continue;
              const w = weight[((c * input.channels + k) * kernel + m) * kernel + n];
              sum += w * input.values[(k * input.size + row) * input.size + column];
            }
          }
        }
        values[place++] = sum;
      }
    }
  }
  return { channels, size, values };
}

// Lecture point 7: the maximum of 2 x 2, every 2 pixels.
function maxPool(maps) {
  const size = Math.floor(maps.size / 2);
  const values = new Float64Array(maps.channels * size * size);
  let place = 0;
  for (let c = 0; c < maps.channels; c++) {
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        const at = (m, n) => maps.values[(c * maps.size + 2 * i + m) * maps.size + 2 * j + n];
        values[place++] = Math.max(at(0, 0), at(0, 1), at(1, 0), at(1, 1));
      }
    }
  }
  return { channels: maps.channels, size, values };
}

function dense(input, weight, bias) {
  return Float64Array.from(bias, (b, unit) => {
    let sum = b;
    for (let k = 0; k < input.length; k++) sum += weight[unit * input.length + k] * input[k];
    return sum;
  });
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
