// What was asked and what came of it, newest first. Images stay on the server; the list
// is kept in this browser, without images that were given.

import * as api from "./api.js";
import { t } from "./texts.js";

const KEPT = 50;
const POLL = 2000; // milliseconds
const STORE = "cogjax.requests";
const feed = document.getElementById("feed");
const said = document.getElementById("said");

let entries = []; // {body, found, mode}, and while shown {element, bodyGiven, stop}
let actions = {}; // again(entry), use(blob)

export function start(given) {
  actions = given;
  try {
    entries = JSON.parse(localStorage.getItem(STORE)) || [];
  } catch {
    entries = [];
  }
  entries.forEach((entry) => {
    show(entry);
    feed.append(entry.element);
  });
  setInterval(poll, POLL);
  follow();
  document.getElementById("forget").addEventListener("click", () => {
    entries.filter(isOver).forEach(drop);
  });
  mark();
}

export function add(body, mode, found) {
  const { image, mask, ...kept } = body;
  const entry = { body: kept, hasImage: Boolean(image), mode, found, bodyGiven: body };
  entries.unshift(entry);
  entries.filter(isOver).slice(KEPT).forEach(drop);
  show(entry);
  feed.prepend(entry.element);
  follow();
  mark();
}

export function redraw() {
  entries.forEach(show);
}

const isOver = (entry) => ["done", "failed", "cancelled", "gone"].includes(entry.found.state);

function mark() {
  const plain = entries.map(({ body, hasImage, mode, found }) => ({ body, hasImage, mode, found }));
  localStorage.setItem(STORE, JSON.stringify(plain));
  document.getElementById("empty").hidden = entries.length > 0;
  document.getElementById("forget").hidden = !entries.some(isOver);
}

function drop(entry) {
  entries = entries.filter((each) => each !== entry);
  entry.stop?.();
  entry.element.remove();
  mark();
  follow();
}

// The oldest that is not over is watched; a browser has few connections to a server, so
// that of the others is asked now and then.
function follow() {
  const entry = entries.filter((each) => !isOver(each)).at(-1);
  if (!entry || entry.stop) return;
  const lost = () => ask(entry);
  entry.stop = api.watch(entry.found.id, (found) => told(entry, found), lost);
}

function poll() {
  entries.filter((each) => !isOver(each) && !each.stop).forEach(ask);
}

async function ask(entry) {
  try {
    told(entry, await api.state(entry.found.id));
  } catch (error) {
    const lost = !(error instanceof api.Refused);
    told(entry, { ...entry.found, state: lost ? "failed" : "gone", error: "", lost });
  }
}

function told(entry, found) {
  const before = entry.found;
  entry.found = found;
  show(entry);
  if (found.state === before.state && found.place === before.place) return;
  said.textContent = stateOf(found);
  mark();
  follow();
}

function make(name, { words, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  if (words !== undefined) element.textContent = words;
  element.append(...children);
  return element;
}

function stateOf(found) {
  if (found.state === "waiting") {
    return found.place ? `${t("waiting")}, ${t("place")} ${found.place}` : t("waiting");
  }
  if (found.state === "running") {
    const doing = t(found.doing) || t("running");
    return found.done ? `${doing} ${found.done} ${t("of")} ${found.total}` : doing;
  }
  if (found.state === "done" && found.seconds !== undefined) {
    return `${t("done")}, ${found.seconds} ${t("seconds")}`;
  }
  return t(found.state);
}

// Words of the server are English in every language.
function wrongOf({ error, lost }) {
  if (lost) return t("lost");
  return error && error !== "cancelled" ? t("says") + error : "";
}

function titleOf({ body, mode }) {
  const words = body.prompts || body.question || body.texts?.join(" / ") || body.style || "";
  return words ? `${t(mode)}${t("colon")}${words}` : t(mode);
}

function show(entry) {
  const { found } = entry;
  if (!entry.element) {
    entry.element = make("li", { className: "entry" });
    entry.parts = {
      title: make("h3"),
      about: make("p", { className: "hint" }),
      bar: make("div", { className: "row" }),
      progress: make("progress"),
      wrong: make("p", { className: "wrong" }),
      told: make("div", { className: "told" }),
      images: make("div", { className: "images" }),
    };
    entry.element.append(...Object.values(entry.parts));
  }
  const { parts } = entry;
  parts.title.textContent = titleOf(entry);
  const seed = found.seed ?? entry.body.seed;
  parts.about.textContent = [entry.body.model, seed !== undefined && `${t("seed")} ${seed}`]
    .filter(Boolean)
    .join(" · ");
  showBar(entry);
  parts.progress.hidden = isOver(entry);
  parts.progress.setAttribute("aria-label", stateOf(found));
  if (found.state === "running" && found.done) {
    parts.progress.max = found.total;
    parts.progress.value = found.done;
  } else {
    parts.progress.removeAttribute("value");
  }
  parts.wrong.textContent = wrongOf(found);
  parts.told.replaceChildren(...toldOf(found));
  showImages(entry);
}

// Its buttons stay where they are while the state changes, and so does the focus.
function showBar(entry) {
  const { bar } = entry.parts;
  const over = isOver(entry);
  if (!bar.firstChild) {
    const press = (action) => make("button", { type: "button", onclick: action });
    entry.buttons = {
      cancel: press(() => api.cancel(entry.found.id).catch(() => {})),
      again: press(() => actions.again(entry)),
      remove: press(() => drop(entry)),
    };
    bar.append(make("span", { className: "state" }), ...Object.values(entry.buttons));
  }
  bar.firstChild.textContent = stateOf(entry.found);
  for (const [name, button] of Object.entries(entry.buttons)) {
    button.textContent = t(name);
    button.hidden = over === (name === "cancel");
  }
}

function toldOf(found) {
  const parts = [];
  for (const name of ["caption", "answer"]) {
    if (found[name] !== undefined) parts.push(make("p", { words: found[name] || "–" }));
  }
  if (found.scores) {
    const rows = found.scores.map(({ text, score }) =>
      make("tr", {}, make("td", { words: text }), make("td", { words: score.toFixed(3) })),
    );
    parts.push(make("table", {}, make("caption", { className: "hint", words: t("lower") }), ...rows));
  }
  if (found.made?.some(({ score }) => typeof score === "number")) {
    parts.push(make("p", { className: "hint", words: t("lower") }));
  }
  for (const name of ["unseen", "unread"]) {
    const words = (found[name] || []).filter(Boolean).join(", ");
    if (words) parts.push(make("p", { className: "hint", words: `${t(name)}${t("colon")}${words}` }));
  }
  return parts;
}

function showImages(entry) {
  const { found, parts } = entry;
  const shown = parts.images.children;
  while (shown.length > found.images) shown[shown.length - 1].remove();
  while (shown.length < found.images) parts.images.append(figure(entry, shown.length));
  [...shown].forEach((each, index) => {
    const image = each.querySelector("img");
    const source = api.imageUrl(found, index);
    const final = found.state === "done";
    const number = `${t(final ? "number" : "candidate")} ${index + 1}`;
    image.alt = `${number}: ${titleOf(entry)}`;
    if (image.dataset.source !== source) load(image, source);
    const score = found.made?.[index]?.score;
    const known = typeof score === "number";
    each.querySelector("figcaption").textContent = known ? `${t("fits")} ${score.toFixed(3)}` : "";
    const row = each.querySelector(".row");
    row.hidden = !final;
    const [save, use] = row.children;
    save.href = source;
    save.download = fileName(entry, index);
    save.textContent = t("save");
    save.setAttribute("aria-label", `${t("save")}: ${number}`);
    use.textContent = t("use");
    use.title = t("useLong");
    use.setAttribute("aria-label", `${t("useLong")}: ${number}`);
  });
}

function figure(entry, index) {
  const use = async () => {
    const image = entry.parts.images.children[index].querySelector("img");
    actions.use(await (await fetch(image.src)).blob());
  };
  const row = make(
    "div",
    { className: "row" },
    make("a", { className: "button" }),
    make("button", { type: "button", onclick: use }),
  );
  return make("figure", {}, make("img"), make("figcaption"), row);
}

// The old image stays until the new one is there.
async function load(image, source) {
  image.dataset.source = source;
  const next = new Image();
  next.src = source;
  try {
    await next.decode();
    if (image.dataset.source === source) image.src = source;
  } catch {
    if (image.dataset.source !== source || image.src) return;
    image.hidden = true;
    image.parentElement.querySelector(".row").hidden = true;
    image.parentElement.querySelector("figcaption").textContent = t("gone");
  }
}

function fileName({ body, mode }, index) {
  const words = body.prompts || body.style || mode;
  const letters = words.toLowerCase().match(/[\p{L}\p{M}\p{N}]+/gu) || ["image"];
  return `${letters.join("-").slice(0, 40)}-${index + 1}.png`;
}
