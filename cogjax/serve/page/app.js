// The form: what a model can do decides what is there.

import * as api from "./api.js";
import * as feed from "./feed.js";
import * as given from "./given.js";
import { languageOf, speak, t } from "./texts.js";

const get = (id) => document.getElementById(id);
const COUNTS = [1, 2, 4, 8, 16];
const NUMBERS = {
  temperature: [0, 100, 0.05],
  guidance: [0, 100, 0.1],
  top_k: [0, 2147483647, 1],
  top_p: [0, 1, 0.01],
  steps: [1, 10000, 1],
  choice_temperature: [0, 100, 0.1],
  percentile: [0, 100, 0.1],
  augmentation: [0, 1, 0.05],
  gamma: [0, 1, 0.05],
  fillings: [1, 64, 1],
};
// What each mode needs: a task and, of "generate", a setting; whether it has an image.
const MODES = {
  draw: { task: "generate" },
  edit: { task: "generate", setting: "mask", image: true },
  extend: { task: "generate", setting: "extend", image: true },
  vary: { task: "generate", setting: "vary", image: true },
  start: { task: "generate", setting: "strength", image: true },
  restyle: { task: "generate", image: true },
  caption: { task: "caption", image: true },
  ask: { task: "ask", image: true },
  score: { task: "score", image: true },
};
const TEXT = { ask: "question", score: "texts" };

let models = [];
let limits = {};
let mode = "";

const model = () => models.find((each) => each.name === get("model").value);

function can(name) {
  const { task, setting } = MODES[name];
  const { tasks, settings, styles } = model();
  if (!tasks.includes(task)) return false;
  if (name === "restyle") return styles.length > 0;
  if (name === "draw") return styles.length === 0;
  return !setting || settings.includes(setting);
}

function option(value, words) {
  return new Option(words, value);
}

function fill(select, options) {
  const before = select.value;
  select.replaceChildren(...options);
  if (options.some((each) => each.value === before)) select.value = before;
}

function showModel() {
  get("about").textContent = model().about;
  const names = Object.keys(MODES).filter(can);
  if (!names.includes(mode)) [mode] = names;
  const modes = names.map((name) => {
    const label = document.createElement("label");
    label.className = "mode";
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "mode", value: name, checked: name === mode });
    input.addEventListener("change", () => setMode(name));
    const words = document.createElement("span");
    words.textContent = t(name);
    label.append(input, words);
    return label;
  });
  get("modes").replaceChildren(get("modes").querySelector("legend"), ...modes);
  fill(get("style"), model().styles.map((name) => option(name, name)));
  fill(get("count"), COUNTS.filter((n) => n <= limits.images).map((n) => option(n, n)));
  showBest();
  showSettings();
  setMode(mode);
}

// Candidates of which the best are kept, by whom they are judged.
function showBest() {
  const judges = models.filter((each) => each.tasks.includes("judge")).map((each) => each.name);
  const own = model().settings.includes("rerank");
  const options = [option("", t("off"))];
  for (const count of [8, 16].filter((n) => n <= limits.images)) {
    if (own) options.push(option(`${count}:`, `${count} ${t("own")}`));
    judges.forEach((name) => options.push(option(`${count}:${name}`, `${count} ${t("by")} ${name}`)));
  }
  fill(get("best"), options);
}

function field(name, input) {
  const made = document.createElement("div");
  made.className = "field";
  const label = document.createElement("label");
  label.textContent = t(name);
  input.id = label.htmlFor = `set-${name}`;
  made.append(label, input);
  return made;
}

function number(name, [min, max, step], value, placeholder) {
  const input = document.createElement("input");
  Object.assign(input, { type: "number", min, max, step: "any", value, placeholder });
  input.dataset.step = step;
  return field(name, input);
}

function showSettings() {
  const before = settingsOf();
  const { settings, defaults, tasks, aspects } = model();
  const fields = [];
  if (tasks.includes("generate")) {
    fields.push(number("seed", [0, 4294967295, 1], before.seed ?? "", t("random")));
  }
  for (const [name, range] of Object.entries(NUMBERS)) {
    if (settings.includes(name)) {
      fields.push(number(name, range, before[name] ?? "", defaults[name] ?? ""));
    }
  }
  const choices = { method: settings.includes("method") ? ["ddim", "ddpm"] : [], aspect: aspects };
  for (const [name, known] of Object.entries(choices)) {
    if (!known.length) continue;
    const select = document.createElement("select");
    select.append(...["", ...known].map((each) => option(each, each || defaults[name] || "–")));
    select.value = known.includes(before[name]) ? before[name] : "";
    fields.push(field(name, select));
  }
  if (settings.includes("negative")) {
    const input = document.createElement("textarea");
    Object.assign(input, { rows: 1, maxLength: 4096, value: before.negative ?? "" });
    fields.push(field("negative", input));
  }
  get("settings").replaceChildren(...fields);
}

// Those that were filled in.
function settingsOf() {
  const found = {};
  for (const input of get("settings").querySelectorAll("input, select, textarea")) {
    const text = input.value.trim();
    if (text) found[input.id.replace("set-", "")] = input.type === "number" ? Number(text) : text;
  }
  return found;
}

function setMode(name) {
  mode = name;
  const { task, image } = MODES[mode];
  const draws = task === "generate";
  get("given").hidden = !image;
  get("style-field").hidden = mode !== "restyle";
  get("share-field").hidden = !["vary", "start"].includes(mode);
  get("share-label").textContent = t(mode === "start" ? "strength" : "share");
  get("text-field").hidden = ["restyle", "caption"].includes(mode);
  const text = TEXT[mode] || "prompt";
  get("text-label").textContent = t(text);
  get("text").placeholder = t(`${text}Hint`);
  get("counts").hidden = get("more").hidden = !draws;
  get("best-field").hidden = mode === "restyle" || get("best").options.length < 2;
  const fillings = get("set-fillings");
  if (fillings) fillings.parentElement.hidden = !["edit", "extend", "vary"].includes(mode);
  get("go").textContent = t("go")[mode];
  get("wrong").textContent = "";
  given.setMode(mode);
  showShare();
}

function showShare() {
  get("share-value").textContent = Number(get("share").value).toFixed(2);
}

class Missing extends Error {}

// The request's JSON; raises Missing for what is not filled in.
function bodyOf() {
  const { task, image } = MODES[mode];
  const body = { task, model: model().name };
  const text = get("text").value.trim();
  if (image) {
    if (!given.has()) throw new Missing(t("noImage"));
    body.image = given.imageData();
  }
  if (!get("text-field").hidden && !text) throw new Missing(t("noText"));
  if (mode === "ask") body.question = text;
  if (mode === "score") body.texts = text.split("\n").map((x) => x.trim()).filter(Boolean);
  if (task !== "generate") return body;
  Object.assign(body, settingsOf());
  if (!["edit", "extend", "vary"].includes(mode)) delete body.fillings;
  body.seed ??= Math.floor(Math.random() * 2 ** 32);
  body.num_images = Number(get("count").value);
  if (mode === "restyle") body.style = get("style").value;
  else body.prompts = text;
  if (mode === "edit") {
    if (!given.isPainted()) throw new Missing(t("noMask"));
    body.mask = given.maskData();
  }
  if (mode === "extend") {
    body.extend = given.extension();
    if (!Object.keys(body.extend).length) throw new Missing(t("noSides"));
  }
  if (mode === "vary") body.vary = Number(get("share").value);
  if (mode === "start") body.strength = Number(get("share").value);
  const best = get("best").value;
  if (best && !get("best-field").hidden) {
    const [count, judge] = best.split(/:(.*)/);
    body.rerank = Math.max(Number(count), body.num_images);
    if (judge) body.rerank_by = judge;
  }
  return body;
}

async function send(body, as) {
  get("wrong").textContent = "";
  try {
    feed.add(body, as, await api.submit(body));
  } catch (error) {
    const refused = error instanceof api.Refused;
    get("wrong").textContent = refused ? t("says") + error.message : t("lost");
  }
}

function submit(event) {
  event.preventDefault();
  try {
    send(bodyOf(), mode);
  } catch (error) {
    if (!(error instanceof Missing)) throw error;
    get("wrong").textContent = error.message;
  }
}

// The same with another seed, unless one is written in the form.
function again(entry) {
  if (entry.hasImage && !entry.bodyGiven) {
    get("wrong").textContent = t("imageAgain");
    get("form").scrollIntoView();
    return;
  }
  const body = { ...(entry.bodyGiven || entry.body) };
  if (body.task === "generate") {
    body.seed = settingsOf().seed ?? Math.floor(Math.random() * 2 ** 32);
  }
  send(body, entry.mode);
}

async function take(blob) {
  try {
    await given.load(blob);
  } catch {
    get("wrong").textContent = t("unreadable");
    return;
  }
  get("wrong").textContent = "";
  if (!MODES[mode].image) mode = Object.keys(MODES).find((name) => MODES[name].image && can(name)) || mode;
  showModel();
}

function use(blob) {
  take(blob).then(() => get("given").scrollIntoView({ block: "nearest" }));
}

function listen() {
  get("form").addEventListener("submit", submit);
  get("model").addEventListener("change", showModel);
  get("share").addEventListener("input", showShare);
  get("file").addEventListener("change", () => {
    if (get("file").files[0]) take(get("file").files[0]);
    get("file").value = ""; // The same file may be chosen again.
  });
  get("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) get("form").requestSubmit();
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) take(file);
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  get("theme").textContent = t(name === "dark" ? "light" : "dark");
}

function dress() {
  const prefersDark = matchMedia("(prefers-color-scheme: dark)").matches;
  setTheme(localStorage.getItem("cogjax.theme") || (prefersDark ? "dark" : "light"));
  get("theme").addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("cogjax.theme", next);
    setTheme(next);
  });
  get("language").addEventListener("click", () => {
    const next = languageOf() === "zh" ? "en" : "zh";
    localStorage.setItem("cogjax.language", next);
    speak(next);
    setTheme(document.documentElement.dataset.theme);
    if (models.length) showModel();
    feed.redraw();
  });
}

async function begin() {
  given.makeSides();
  const own = navigator.language.startsWith("zh") ? "zh" : "en";
  speak(localStorage.getItem("cogjax.language") || own);
  dress();
  listen();
  feed.start({ again, use });
  try {
    ({ models, limits } = await api.models());
  } catch {
    get("wrong").textContent = t("lost");
    return;
  }
  get("model").replaceChildren(...models.map(({ name }) => option(name, name)));
  get("count").append(...COUNTS.map((n) => option(n, n)));
  get("count").value = String(Math.min(4, limits.images));
  showModel();
}

begin();
