// One pair after the other; what is answered is kept in this browser, and saved as a file when asked.
"use strict";

const sheet = JSON.parse(document.getElementById("sheet").textContent);
const at = (name) => document.getElementById(name);
const form = at("form");
const memory = `pairs-${sheet.sheet}-${sheet.worker}`;
const other = { x: "y", y: "x" };
let answers = recalled();
let current = Math.max(0, sheet.pairs.findIndex(({ pair }) => !answers[pair]));
let since = performance.now();

function recalled() {
  try {
    return JSON.parse(localStorage.getItem(memory)) ?? {};
  } catch {
    return {}; // a browser that keeps nothing for files: answers last as long as the page
  }
}

function remember() {
  try {
    localStorage.setItem(memory, JSON.stringify(answers));
  } catch {
    // as above
  }
}

// What was chosen, as the picture's letter, and back.
const letterOf = (pair, side) => (side === "left" ? pair.left : side === "right" ? other[pair.left] : side);
const sideOf = (pair, letter) => (letter === pair.left ? "left" : letter === other[pair.left] ? "right" : letter);

function show() {
  const pair = sheet.pairs[current];
  const known = answers[pair.pair];
  at("caption").textContent = pair.caption;
  at("left").src = pair.leftFile;
  at("right").src = pair.rightFile;
  form.reset();
  for (const { name } of sheet.questions) if (known) form.elements[name].value = sideOf(pair, known[name]);
  at("back").disabled = current === 0;
  since = performance.now();
  count();
}

function count() {
  const done = Object.keys(answers).length;
  at("place").textContent = `Pair ${current + 1} of ${sheet.pairs.length}; ${done} answered`;
  at("end").hidden = done < sheet.pairs.length;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const pair = sheet.pairs[current];
  const before = answers[pair.pair]?.seconds ?? 0;
  const seconds = Math.round(10 * (before + (performance.now() - since) / 1000)) / 10;
  const chosen = sheet.questions.map(({ name }) => [name, letterOf(pair, form.elements[name].value)]);
  answers[pair.pair] = { ...Object.fromEntries(chosen), seconds };
  remember();
  current = Math.min(current + 1, sheet.pairs.length - 1);
  show();
});

at("back").addEventListener("click", () => {
  current = Math.max(0, current - 1);
  show();
});

at("save").addEventListener("click", () => {
  const rows = Object.entries(answers).map(([pair, answer]) => ({ pair: Number(pair), ...answer }));
  const text = JSON.stringify({ sheet: sheet.sheet, worker: sheet.worker, answers: rows }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text + "\n"], { type: "application/json" }));
  link.download = `answers-${sheet.worker}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
});

show();
