"use strict";
const STUDY = JSON.parse(document.getElementById("study").textContent);
const KEPT = `cogjax-human-${STUDY.page}`;
const MAIN = document.getElementById("main");
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

let kept = true; // whether the browser keeps what is stored
let state = restored();
let mine = []; // items of this rater, in their order
let shownAt = 0;

function fresh() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  const token = Array.from(bytes, (x) => x.toString(16).padStart(2, "0")).join("");
  return { token, rater: "", at: -1, answers: {}, language: "", theme: "" };
}

function restored() {
  try {
    const found = JSON.parse(localStorage.getItem(KEPT));
    if (found && found.token && found.answers) return found;
  } catch {
    // Another value, or no storage: a new start.
  }
  return fresh();
}

function keep() {
  try {
    localStorage.setItem(KEPT, JSON.stringify(state));
  } catch {
    kept = false;
  }
}

// ---- Order: the same for a rater at every visit, another for every rater.

function hash(text) {
  let found = 2166136261;
  for (const char of text) found = Math.imul(found ^ char.codePointAt(0), 16777619);
  return found >>> 0;
}

function random(text) {
  let at = hash(text);
  return () => {
    at = (at + 0x6d2b79f5) >>> 0;
    let x = Math.imul(at ^ (at >>> 15), at | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(list, text) {
  const found = [...list];
  const next = random(text);
  for (let i = found.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [found[i], found[j]] = [found[j], found[i]];
  }
  return found;
}

// Rater 1 gets the first prompts, rater 2 the next: all are judged equally often.
function promptsOf(rater) {
  const count = STUDY.prompts.length;
  const order = shuffled(STUDY.prompts.keys(), STUDY.page);
  if (!STUDY.perRater || STUDY.perRater >= count) return new Set(order);
  const number = /^\d{1,6}$/.test(rater) ? Number(rater) - 1 : hash(rater);
  const first = (number * STUDY.perRater) % count;
  const turns = Array.from({ length: STUDY.perRater }, (_, i) => (first + count + i) % count);
  return new Set(turns.map((i) => order[i]));
}

function assign() {
  const prompts = promptsOf(state.rater);
  const own = STUDY.items.filter((item) => item.all || prompts.has(item.prompt));
  mine = shuffled(own, STUDY.page + state.token);
}

function orderOf(item) {
  return shuffled(Object.keys(item.candidates), STUDY.page + state.token + item.id);
}

// ---- Elements

const text = (name) => TEXTS[state.language][name];

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function show(...children) {
  MAIN.replaceChildren(...children);
  window.scrollTo(0, 0);
  const heading = MAIN.querySelector("h2");
  if (heading) heading.focus();
}

function say(words) {
  document.getElementById("said").textContent = words;
}

function pick(name, value, shown, label, checked) {
  const input = make("input", { type: "radio", name, value, checked, "aria-label": label });
  return make("label", { class: "pick" }, input, make("span", { "aria-hidden": "true" }, shown));
}

// ---- Screens

function intro() {
  const wrong = make("p", { class: "wrong", role: "alert" });
  const code = make("input", { type: "text", id: "code", maxlength: 40, value: state.rater, autocomplete: "off" });
  const begun = Object.keys(state.answers).length > 0;
  const form = make("form", { onsubmit: begin },
    make("div", { class: "field" }, make("label", { for: "code" }, text("code")), code),
    wrong,
    make("div", { class: "row" },
      make("button", { class: "main" }, text(begun ? "goOn" : "start")),
      ...(begun ? [make("button", { type: "button", onclick: another }, text("another"))] : []),
    ),
  );
  code.disabled = begun; // The images are chosen by it.
  function begin(event) {
    event.preventDefault();
    // One form for what looks alike, as `answers.py` has it: the file is read there.
    state.rater = code.value.normalize("NFKC").replace(/[\p{C}\p{Z}\s]+/gu, " ").trim();
    if (!state.rater) {
      wrong.textContent = text("noCode");
      code.focus();
      return;
    }
    assign();
    const open = mine.findIndex((item) => !state.answers[item.id]);
    go(open < 0 ? mine.length : open);
  }
  const always = STUDY.items.filter((item) => item.all).length;
  const rest = STUDY.items.length - always;
  const some = STUDY.perRater && STUDY.perRater < STUDY.prompts.length;
  const count = always + (some ? Math.round((rest * STUDY.perRater) / STUDY.prompts.length) : rest);
  show(
    make("h2", { tabindex: -1 }, text("title")),
    make("p", {}, text("intro")[STUDY.form]),
    make("p", {}, text("facts")(count)),
    make("p", { class: "hint" }, text("keys")),
    form,
  );
}

// The answers of who was here before are saved as a file first.
function another() {
  assign();
  save();
  const { language, theme } = state;
  state = { ...fresh(), language, theme };
  mine = [];
  again();
}

function go(at) {
  state.at = at;
  keep();
  shownAt = performance.now();
  if (at >= mine.length) end();
  else screen(mine[at], at);
}

function screen(item, at) {
  const order = orderOf(item);
  const given = state.answers[item.id] || { scores: {}, choices: {} };
  const wrong = make("p", { class: "wrong", role: "alert" });
  const cards = order.map((candidate, i) => card(item, candidate, LETTERS[i], given));
  const choices = Object.entries(STUDY.choices).map(([name, none]) => choice(name, none, order, given));
  const form = make("form", { onsubmit: (event) => answer(event, item, order, wrong) },
    make("div", { class: "candidates" }, ...cards),
    ...choices,
    wrong,
    make("div", { class: "row" },
      make("button", { class: "main" }, text("next")),
      make("button", { type: "button", disabled: at === 0, onclick: () => go(at - 1) }, text("back")),
      make("button", { type: "button", onclick: save }, text("save")),
    ),
    make("p", { class: "hint" }, text("keys")),
  );
  const place = text("place")(at + 1, mine.length);
  show(
    make("p", { class: "hint" }, place),
    make("progress", { max: mine.length, value: at, "aria-label": place }),
    make("h2", { tabindex: -1, lang: STUDY.language }, STUDY.prompts[item.prompt]),
    ...(kept ? [] : [make("p", { class: "wrong" }, text("unkept"))]),
    form,
  );
}

function card(item, candidate, letter, given) {
  const source = `data:image/png;base64,${STUDY.images[item.candidates[candidate]]}`;
  const name = `${text("image")} ${letter}`;
  const asked = STUDY.aspects.map((aspect) => {
    const points = Array.from({ length: STUDY.points }, (_, i) => {
      const checked = given.scores[candidate] && given.scores[candidate][aspect] === i + 1;
      return pick(`${candidate} ${aspect}`, i + 1, i + 1, i + 1, checked || false);
    });
    const legend = make("legend", {}, make("span", { class: "unseen" }, `${name}: `), text(aspect));
    return make("fieldset", {}, legend, make("div", { class: "points" }, ...points));
  });
  const hint = asked.length ? [make("p", { class: "hint" }, text("low"))] : [];
  return make("div", { class: "card" },
    make("figure", {}, make("figcaption", {}, name), make("img", { src: source, alt: name })),
    ...asked, ...hint,
  );
}

function choice(name, none, order, given) {
  const picks = order.map((candidate, i) =>
    pick(name, candidate, LETTERS[i], `${text("image")} ${LETTERS[i]}`, given.choices[name] === candidate));
  if (none) {
    // Between the two: no side is nearer to it.
    picks.splice(1, 0, pick(name, none, text(none), text(none), given.choices[name] === none));
  }
  return make("fieldset", {}, make("legend", {}, text(name)), make("div", { class: "choices" }, ...picks));
}

function answer(event, item, order, wrong) {
  event.preventDefault();
  const form = new FormData(event.target);
  const scores = {};
  for (const candidate of STUDY.aspects.length ? order : []) {
    scores[candidate] = {};
    for (const aspect of STUDY.aspects) scores[candidate][aspect] = Number(form.get(`${candidate} ${aspect}`)) || null;
  }
  const choices = {};
  for (const name of Object.keys(STUDY.choices)) choices[name] = form.get(name);
  const open = Array.from(event.target.querySelectorAll("fieldset")).filter((x) => !x.querySelector("input:checked"));
  if (open.length) {
    wrong.textContent = text("missing")(open.length);
    open[0].querySelector("input").focus();
    return;
  }
  const before = state.answers[item.id];
  const seconds = Math.round(performance.now() - shownAt) / 1000 + (before ? before.seconds : 0);
  state.answers[item.id] = { order, seconds, scores, choices };
  go(state.at + 1);
}

function end() {
  show(
    make("h2", { tabindex: -1 }, text("done")),
    make("p", {}, text("send")),
    make("div", { class: "row" },
      make("button", { type: "button", class: "main", onclick: save }, text("download")),
      make("button", { type: "button", onclick: () => go(0) }, text("again")),
    ),
  );
}

function save() {
  const content = {
    cogjax: "human evaluation answers",
    page: STUDY.page,
    rater: state.rater,
    token: state.token,
    screens: mine.length,
    answers: state.answers,
  };
  const file = new Blob([JSON.stringify(content, null, 1)], { type: "application/json" });
  const name = `answers-${state.rater.replace(/[^\p{L}\p{N}]+/gu, "-")}-${state.token.slice(0, 6)}.json`;
  const link = make("a", { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(text("saved")(name));
}

// ---- Language, light and dark

function dress() {
  document.documentElement.lang = state.language;
  document.documentElement.dataset.theme = state.theme;
  document.title = text("title");
  document.getElementById("title").textContent = text("title");
  document.getElementById("language").textContent = text("other");
  document.getElementById("theme").textContent = text(state.theme === "dark" ? "light" : "dark");
}

function again() {
  keep();
  dress();
  if (state.rater && mine.length) go(state.at);
  else intro();
}

document.getElementById("language").addEventListener("click", () => {
  state.language = state.language === "en" ? "zh" : "en";
  again();
});
document.getElementById("theme").addEventListener("click", () => {
  state.theme = state.theme === "dark" ? "light" : "dark";
  keep();
  dress();
});
state.language ||= navigator.language.startsWith("zh") ? "zh" : "en";
state.theme ||= matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
keep();
dress();
intro();
