// The exported bi-encoder: texts and labels in, logits out. What docs/export.md says of prompt.json.
import { Tokenizer } from "./tokenizers.min.mjs";
import * as ort from "./ort.wasm.bundle.min.mjs";

// More threads need headers that plain static servers do not send.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("./ort-wasm-simd-threaded.wasm", import.meta.url).href };

class Pieces {
  constructor(tokenizer, rules) {
    this.tokenizer = tokenizer;
    this.rules = rules;
    const spelled = rules.special_tokens.map((t) => t.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    this.special = spelled.length ? new RegExp(`(?=${spelled.join("|")})`, "gu") : null;
    this.forbidden = new Set(rules.special_ids);
  }

  // Nothing in a piece may pass for a special token: it is cut within what spells one.
  encode(piece) {
    const cuts = this.special ? [...piece.matchAll(this.special)].map((m) => m.index + 1) : [];
    const places = [0, ...cuts, piece.length];
    const ids = [];
    for (let i = 0; i + 1 < places.length; i++) {
      const part = piece.slice(places[i], places[i + 1]);
      if (part) ids.push(...this.tokenizer.encode(part, { add_special_tokens: false }).ids);
    }
    const { substitute_ids } = this.rules;
    return ids.flatMap((id) => (this.forbidden.has(id) ? substitute_ids : [id]));
  }

  inputs(pieces, maxLength) {
    const { prefix_ids: prefix, suffix_ids: suffix, pad_id: pad } = this.rules;
    const room = maxLength - prefix.length - suffix.length;
    const rows = pieces.map((p) => [...prefix, ...this.encode(p).slice(0, room), ...suffix]);
    const length = Math.max(...rows.map((row) => row.length));
    const ids = new BigInt64Array(rows.length * length).fill(BigInt(pad));
    const mask = new BigInt64Array(rows.length * length);
    rows.forEach((row, i) =>
      row.forEach((id, j) => {
        ids[i * length + j] = BigInt(id);
        mask[i * length + j] = 1n;
      }),
    );
    const dims = [rows.length, length];
    return {
      input_ids: new ort.Tensor("int64", ids, dims),
      attention_mask: new ort.Tensor("int64", mask, dims),
    };
  }
}

// build.py wrote 24 bits a weight, 16 and 8 of them apart, with a scale for each row.
function toFloat32(buffer, tensors, nBytes) {
  const all = new Float32Array(nBytes / 4);
  let at = 0;
  for (const { offset, rows, columns } of tensors) {
    const scales = new Float32Array(buffer, at, rows);
    at += 4 * rows;
    const low = new Uint16Array(buffer, at, rows * columns);
    at += Math.ceil((2 * rows * columns) / 4) * 4;
    const high = new Int8Array(buffer, at, rows * columns);
    at += Math.ceil((rows * columns) / 4) * 4;
    for (let i = 0, k = 0; i < rows; i++) {
      const scale = scales[i];
      for (let j = 0; j < columns; j++, k++) {
        all[offset / 4 + k] = (high[k] * 65536 + low[k]) * scale;
      }
    }
  }
  return new Uint8Array(all.buffer);
}

async function read(name, onBytes) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} cannot be read (status ${response.status}).`);
  const parts = [];
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    onBytes(value.length);
  }
  return new Blob(parts).arrayBuffer();
}

export class Model {
  static async open(onProgress = () => {}) {
    const response = await fetch("model.json");
    if (!response.ok) throw new Error(`model.json cannot be read (status ${response.status}).`);
    const settings = await response.json();
    const names = Object.keys(settings.sizes);
    const total = names.reduce((sum, name) => sum + settings.sizes[name], 0);
    let done = 0;
    const count = (n) => onProgress((done += n) / total, total);
    const buffers = await Promise.all(names.map((name) => read(name, count)));
    const file = Object.fromEntries(names.map((name, i) => [name, buffers[i]]));
    const data = toFloat32(file["weights.bin"], settings.weights, settings.n_bytes);
    const model = new Model();
    const externalData = [{ path: "weights", data }];
    const options = { executionProviders: ["wasm"] };
    const create = (name, more) =>
      ort.InferenceSession.create(new Uint8Array(file[name]), { ...options, ...more });
    // One after the other, so that memory holds the weights no more often than needed.
    model.texts = await create("texts.onnx", { externalData });
    model.labels = await create("labels.onnx", { externalData });
    model.scorer = await create("scorer.onnx");
    const json = JSON.parse(new TextDecoder().decode(file["tokenizer.json"]));
    const tokenizer = new Tokenizer(json, {});
    model.textPieces = new Pieces(tokenizer, settings.text);
    model.labelPieces = new Pieces(tokenizer, settings.label);
    model.settings = settings;
    model.known = { key: null, vectors: null };
    return model;
  }

  // Labels change less often than the text.
  async labelVectors(labels) {
    const key = JSON.stringify(labels);
    if (this.known.key !== key) {
      const inputs = this.labelPieces.inputs(labels, this.settings.label.max_length);
      const { label_vectors: vectors } = await this.labels.run(inputs);
      this.known = { key, vectors };
    }
    return this.known.vectors;
  }

  async logits(text, labels) {
    const label_vectors = await this.labelVectors(labels);
    const inputs = this.textPieces.inputs([text.toWellFormed()], this.settings.max_length);
    const { text_vectors } = await this.texts.run(inputs);
    const { logits } = await this.scorer.run({ text_vectors, label_vectors });
    return Array.from(logits.data);
  }

  // One label a text: the softmax. Any number of them: the sigmoid of each.
  async probabilities(text, labels, several = false) {
    const logits = await this.logits(text, labels);
    if (several) return logits.map((x) => 1 / (1 + Math.exp(-x)));
    const most = Math.max(...logits);
    const powers = logits.map((x) => Math.exp(x - most));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  }
}
