import { Model } from "./model.js";

const find = (id) => document.getElementById(id);
const [text, labels, bars, status, loaded] = ["text", "labels", "bars", "status", "loaded"].map(find);
let model = null;
let asked = 0;
let queue = Promise.resolve();

function say(message, kind = "") {
  status.textContent = message;
  status.className = kind;
}

function readLabels() {
  const names = labels.value.split(",").map((name) => name.trim());
  return [...new Set(names.filter(Boolean))];
}

function barOf(label) {
  const row = document.createElement("li");
  row.dataset.label = label;
  row.innerHTML = '<span class="name"></span><span class="number"></span><span class="track"><span class="bar"></span></span>';
  row.querySelector(".name").textContent = label;
  return row;
}

function show(names, probabilities) {
  const old = new Map([...bars.children].map((row) => [row.dataset.label, row]));
  const order = names.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
  const rows = order.map((i) => {
    const row = old.get(names[i]) ?? barOf(names[i]);
    row.dataset.probability = probabilities[i];
    row.querySelector(".number").textContent = `${(100 * probabilities[i]).toFixed(1)} %`;
    return row;
  });
  const several = isSeveral();
  rows.forEach((row, i) =>
    row.classList.toggle("best", several ? row.dataset.probability >= 0.5 : i === 0),
  );
  bars.replaceChildren(...rows);
  // A new bar grows from nothing, once it has been laid out.
  bars.getBoundingClientRect();
  for (const row of rows) row.querySelector(".bar").style.scale = `${row.dataset.probability} 1`;
}

function isSeveral() {
  return document.querySelector("input[name=kind]:checked").value === "several";
}

async function answer(number) {
  // Only what is in the fields now.
  if (number !== asked) return;
  const names = readLabels();
  const question = { text: text.value, labels: names, several: isSeveral() };
  if (!question.text.trim() || !names.length) {
    bars.replaceChildren();
    say(names.length ? "Type a text." : "Type labels, with commas between them.");
    return;
  }
  try {
    const begin = performance.now();
    const probabilities = await model.probabilities(question.text, names, question.several);
    const spent = performance.now() - begin;
    if (number !== asked) return;
    show(names, probabilities);
    bars.dataset.question = JSON.stringify(question);
    say(`${spent < 10 ? spent.toFixed(1) : Math.round(spent)} ms, in this browser`);
  } catch (error) {
    say(`This could not be classified: ${error.message}`, "error");
  }
}

function ask() {
  if (!model) return;
  const number = ++asked;
  queue = queue.then(() => answer(number));
}

for (const field of document.querySelectorAll("textarea, input")) field.addEventListener("input", ask);
for (const button of document.querySelectorAll("[data-text]"))
  button.addEventListener("click", () => {
    text.value = button.dataset.text;
    labels.value = button.dataset.labels;
    ask();
  });

try {
  model = await Model.open((share, total) => {
    loaded.value = share;
    const size = `${Math.round(total / 1e6)} MB`;
    say(share < 1 ? `Loading the model: ${Math.round(100 * share)} % of ${size}` : "Starting the model");
  });
  loaded.hidden = true;
  document.body.dataset.state = "ready";
  ask();
} catch (error) {
  loaded.hidden = true;
  document.body.dataset.state = "failed";
  say(`The model could not be loaded: ${error.message}`, "error");
}
