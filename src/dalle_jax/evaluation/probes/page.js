// The reader picks a word of a slot, and sees the pictures of the drawn caption that holds it and differs least.
"use strict";

const { slots, captions } = JSON.parse(document.getElementById("drawn").textContent);
const place = { caption: null, slots: null, pictures: null, sheet: null, ours: null };
for (const name of Object.keys(place)) place[name] = document.getElementById(name);
let current = captions[0];

const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

// Of the captions with that word, the one with the most other words as they are; the first of several.
function nearest(slot, word) {
  const kept = (caption) =>
    slots.reduce((sum, { name }) => sum + (name !== slot && caption.words[name] === current.words[name]), 0);
  const having = captions.filter((caption) => caption.words[slot] === word);
  return having.reduce((best, caption) => (kept(caption) > kept(best) ? caption : best));
}

// Whether choosing that word would change words of other slots too.
function movesOthers(slot, word) {
  const { words } = nearest(slot, word);
  return slots.some(({ name }) => name !== slot && words[name] !== current.words[name]);
}

function show(caption) {
  current = caption;
  showCaption();
  showSlots();
  showPictures();
  history.replaceState(null, "", `#${captions.indexOf(caption)}`);
}

function showCaption() {
  const buttons = [...place.caption.querySelectorAll("button")];
  const focused = buttons.indexOf(document.activeElement);
  place.caption.replaceChildren(
    ...current.parts.map(([text, slot]) => {
      const at = slots.findIndex(({ name }) => name === slot);
      if (slot === null) return text;
      const words = slots[at].words.map(({ text }) => text);
      if (words.length === 1) return element("span", { className: `word hue-${at % 6}`, textContent: text });
      const next = words[(words.indexOf(current.words[slot]) + 1) % words.length];
      return element("button", {
        type: "button",
        className: `word hue-${at % 6}`,
        textContent: text,
        title: `${slot}: next is ${next}`,
        onclick: () => show(nearest(slot, next)),
      });
    }),
  );
  if (focused >= 0) [...place.caption.querySelectorAll("button")][focused]?.focus();
  place.ours.hidden = !current.ours;
}

function makeSlots() {
  slots.forEach(({ name, words }, at) => {
    if (words.length === 1) return;
    const choices = words.map(({ text, ours }) => {
      const input = element("input", { type: "radio", name, value: text, onchange: () => show(nearest(name, text)) });
      return element("label", {}, input, element("span", { className: ours ? "ours" : "", textContent: text }));
    });
    const legend = element("legend", { textContent: name });
    place.slots.append(element("fieldset", { className: `slot hue-${at % 6}`, name }, legend, ...choices));
  });
}

function showSlots() {
  for (const group of place.slots.querySelectorAll("fieldset")) {
    group.hidden = !(group.name in current.words);
    for (const input of group.querySelectorAll("input")) {
      input.checked = input.value === current.words[group.name];
      input.parentElement.classList.toggle("moves", !group.hidden && movesOthers(group.name, input.value));
    }
  }
}

function showPictures() {
  const caption = current.parts.map(([text]) => text).join("");
  place.pictures.replaceChildren(
    ...current.pictures.map(([file, label], i) => {
      const image = element("img", { src: file, alt: `${caption} (${i + 1})` });
      return element("figure", {}, element("a", { href: file }, image), element("figcaption", { textContent: label }));
    }),
  );
  place.sheet.href = current.sheet;
}

makeSlots();
show(captions[Number(location.hash.slice(1))] ?? current);
