// The image that a request starts from: chosen, dropped, pasted or a result; painted on.

import { t } from "./texts.js";

const MOST = 1024; // pixels a side that are sent
const SIDE = 512; // of the canvas on which is painted
const PAINT = "#ff3d7f";
const SIDES = ["left", "top", "right", "bottom"];

const canvas = document.getElementById("canvas");
const size = document.getElementById("size");
const erase = document.getElementById("erase");
const sides = document.getElementById("sides");

let image = null; // a canvas with the image as it is sent
let mask = null; // a canvas of the size of the one that is painted on
let strokes = []; // for undo: copies of the mask
let mode = "";
let cursor = { x: SIDE / 2, y: SIDE / 2 };

function blank(width, height) {
  const made = document.createElement("canvas");
  made.width = Math.max(1, Math.round(width));
  made.height = Math.max(1, Math.round(height));
  return made;
}

export const has = () => image !== null;
export const isPainted = () => strokes.length > 0 && maskOf().some;

export async function load(blob) {
  const bitmap = await createImageBitmap(blob);
  const shrink = Math.min(1, MOST / Math.max(bitmap.width, bitmap.height));
  image = blank(bitmap.width * shrink, bitmap.height * shrink);
  const context = image.getContext("2d");
  context.fillStyle = "#fff"; // What is transparent is white, as the server has it.
  context.fillRect(0, 0, image.width, image.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, image.width, image.height);
  const scale = SIDE / Math.max(image.width, image.height);
  mask = blank(image.width * scale, image.height * scale);
  strokes = [];
  cursor = { x: mask.width / 2, y: mask.height / 2 };
  for (const side of SIDES) {
    const field = document.getElementById(`side-${side}`);
    field.max = Math.max(image.width, image.height);
    field.value = side === "left" || side === "right" ? Math.round(image.width / 4) : 0;
  }
  draw();
}

export function setMode(name) {
  mode = name;
  document.getElementById("brush").hidden = mode !== "edit" || !image;
  sides.hidden = mode !== "extend" || !image;
  canvas.classList.toggle("brush", mode === "edit");
  canvas.hidden = !image;
  canvas.setAttribute("aria-label", t(mode === "edit" ? "paint" : "picture"));
  canvas.setAttribute("role", mode === "edit" ? "application" : "img");
  canvas.tabIndex = mode === "edit" ? 0 : -1;
  draw();
}

export function extension() {
  const found = {};
  for (const side of SIDES) {
    const pixels = Math.round(Number(document.getElementById(`side-${side}`).value));
    if (pixels) found[side] = pixels;
  }
  return found;
}

function draw() {
  if (!image) return;
  const { left = 0, top = 0, right = 0, bottom = 0 } = mode === "extend" ? extension() : {};
  const width = Math.max(1, image.width + left + right);
  const height = Math.max(1, image.height + top + bottom);
  const scale = SIDE / Math.max(width, height);
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  hatch(context);
  context.imageSmoothingEnabled = scale < 1;
  context.drawImage(image, left * scale, top * scale, image.width * scale, image.height * scale);
  if (mode !== "edit") return;
  context.globalAlpha = 0.6;
  context.drawImage(mask, 0, 0);
  context.globalAlpha = 1;
  if (document.activeElement === canvas) ring(context);
}

// What is to be drawn at the sides.
function hatch(context) {
  context.fillStyle = "#8884";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.strokeStyle = "#8888";
  context.beginPath();
  for (let x = -canvas.height; x < canvas.width; x += 16) {
    context.moveTo(x, canvas.height);
    context.lineTo(x + canvas.height, 0);
  }
  context.stroke();
}

function ring(context) {
  context.beginPath();
  context.arc(cursor.x, cursor.y, radius(), 0, 2 * Math.PI);
  for (const [color, width] of [["#fff", 4], ["#000", 2]]) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.stroke();
  }
}

const radius = () => (Number(size.value) / 100) * SIDE * 0.5;

function remember() {
  const copy = blank(mask.width, mask.height);
  copy.getContext("2d").drawImage(mask, 0, 0);
  strokes.push(copy);
  if (strokes.length > 20) strokes.shift();
}

function paint(from, to) {
  const context = mask.getContext("2d");
  context.globalCompositeOperation = erase.checked ? "destination-out" : "source-over";
  context.strokeStyle = PAINT;
  context.lineCap = "round";
  context.lineWidth = 2 * radius();
  context.beginPath();
  context.moveTo(from.x, from.y);
  context.lineTo(to.x + 0.01, to.y);
  context.stroke();
  draw();
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) / box.width) * canvas.width,
    y: ((event.clientY - box.top) / box.height) * canvas.height,
  };
}

function listen() {
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (mode !== "edit" || !image) return;
    canvas.setPointerCapture(event.pointerId);
    remember();
    last = cursor = place(event);
    paint(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    cursor = place(event);
    paint(last, cursor);
    last = cursor;
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => (last = null));
  }
  canvas.addEventListener("keydown", byKey);
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", draw);
  size.addEventListener("input", draw);
  document.getElementById("undo").addEventListener("click", undo);
  document.getElementById("clear").addEventListener("click", () => {
    if (!mask) return;
    remember();
    mask.getContext("2d").clearRect(0, 0, mask.width, mask.height);
    draw();
  });
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function byKey(event) {
  if (mode !== "edit" || !image) return;
  if (event.key in MOVES) {
    const [x, y] = MOVES[event.key];
    const step = Math.max(4, radius() / 2);
    cursor = {
      x: Math.min(mask.width, Math.max(0, cursor.x + x * step)),
      y: Math.min(mask.height, Math.max(0, cursor.y + y * step)),
    };
    draw();
  } else if (event.key === " ") {
    remember();
    paint(cursor, cursor);
  } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
    undo();
  } else {
    return;
  }
  event.preventDefault();
}

function undo() {
  const before = strokes.pop();
  if (!before) return;
  const context = mask.getContext("2d");
  context.globalCompositeOperation = "copy";
  context.drawImage(before, 0, 0);
  draw();
}

// The mask in the image's size, white where it was painted at all.
function maskOf() {
  const made = blank(image.width, image.height);
  const context = made.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(mask, 0, 0, made.width, made.height);
  const pixels = context.getImageData(0, 0, made.width, made.height);
  let some = false;
  for (let i = 0; i < pixels.data.length; i += 4) {
    const value = pixels.data[i + 3] > 64 ? 255 : 0;
    some ||= value > 0;
    pixels.data.set([value, value, value, 255], i);
  }
  context.putImageData(pixels, 0, 0);
  return { canvas: made, some };
}

// Base64 of a PNG file.
function encoded(made) {
  return made.toDataURL("image/png").split(",")[1];
}

export const imageData = () => encoded(image);
export const maskData = () => encoded(maskOf().canvas);

export function makeSides() {
  sides.replaceChildren(
    ...SIDES.map((side) => {
      const field = document.createElement("div");
      field.className = "field";
      const label = document.createElement("label");
      label.htmlFor = `side-${side}`;
      label.dataset.text = side;
      const input = document.createElement("input");
      Object.assign(input, { type: "number", id: `side-${side}`, min: 0, step: 1, value: 0 });
      input.addEventListener("input", draw);
      field.append(label, input);
      return field;
    }),
  );
  listen();
}
