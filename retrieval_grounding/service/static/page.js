// Pages work without this; it adds keys, a slider that acts at once, pictures that are pasted or
// dropped, boxes that are drawn, and thumbs that stay in place. It loads nothing from elsewhere.
"use strict";

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const SVG = "http://www.w3.org/2000/svg";

document.documentElement.classList.add("js");

function say(text) {
  $("#spoken").textContent = text;
}

function follow(rel) {
  const link = $(`a[rel~="${rel}"], link[rel~="${rel}"]`);
  if (link) location.assign(link.href);
  return Boolean(link);
}

// Keys
const dialog = $("#help");
const typing = () => document.activeElement.matches("input:not([type=range]), textarea, select");

function openHelp(event) {
  event.preventDefault();
  if (!dialog.open) dialog.showModal();
}

$("#help-link").addEventListener("click", openHelp);
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

// Arrows go to the photograph or region that lies next in their direction.
function step(links, key) {
  const from = links.indexOf(document.activeElement);
  if (from < 0) return links[0];
  if (key === "ArrowRight") return links[from + 1];
  if (key === "ArrowLeft") return links[from - 1];
  const own = links[from].getBoundingClientRect();
  const down = key === "ArrowDown";
  const beyond = links.filter((link) => {
    const { top } = link.getBoundingClientRect();
    return down ? top > own.top + own.height / 2 : top < own.top - own.height / 2;
  });
  const middle = own.left + own.width / 2;
  const far = (link) => {
    const box = link.getBoundingClientRect();
    return Math.abs(box.top - own.top) * 4 + Math.abs(box.left + box.width / 2 - middle);
  };
  return beyond.sort((one, other) => far(one) - far(other))[0];
}

function arrow(key) {
  const shots = $$("main .shot");
  const regions = $$(".regions a");
  if (shots.length) return step(shots, key);
  if (!regions.length) return null;
  if (key === "ArrowLeft") return void follow("prev");
  if (key === "ArrowRight") return void follow("next");
  return step(regions, key) || null;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
  if (event.key === "Escape") {
    const menu = $("details.menu[open]");
    if (menu) {
      menu.open = false;
      $("summary", menu).focus();
    } else if (drawing) {
      stopDrawing();
    } else if (typing()) {
      document.activeElement.blur();
    } else if (follow("up")) {
      event.preventDefault();
    }
    return;
  }
  if (typing()) {
    if (event.key === "ArrowDown" && document.activeElement.type === "search") {
      event.preventDefault();
      $("main .shot")?.focus();
    }
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    const box = $(".ask input[type=search]");
    box.focus();
    box.select();
  } else if (event.key === "?") {
    openHelp(event);
  } else if (event.key.startsWith("Arrow") && document.activeElement.type !== "range") {
    const next = arrow(event.key);
    if (next) {
      event.preventDefault();
      next.focus();
      next.scrollIntoView({ block: "nearest" });
    }
  }
});

// Coming back, the photograph that was open has the focus.
addEventListener("pageshow", () => {
  const card = /^#i-[0-9a-f]+$/.test(location.hash) && $(location.hash);
  if (card) $(".shot", card)?.focus({ preventScroll: true });
});

document.addEventListener("click", (event) => {
  for (const menu of $$("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// The slider dims what will go, and asks when it is released.
const slider = $(".sure input[type=range]");
if (slider) {
  slider.addEventListener("input", () => {
    $(".sure output").textContent = `${slider.value}%`;
    for (const grid of $$("[data-hits] .grid")) {
      grid.classList.add("dim");
      for (const card of $$("li[data-share]", grid)) {
        card.classList.toggle("out", Number(card.dataset.share) < slider.value / 100);
      }
    }
  });
  slider.addEventListener("change", () => slider.form.requestSubmit());
}

// A picture as a query: chosen, pasted or dropped.
const picture = $("#picture");
const file = $("input[type=file]", picture);

function lookFor(files) {
  const image = [...files].find((one) => one.type.startsWith("image/"));
  if (!image) return;
  const carrier = new DataTransfer();
  carrier.items.add(image);
  file.files = carrier.files;
  say("Looking for what is like this picture");
  picture.submit();
}

file.addEventListener("change", () => file.files.length && picture.submit());
for (const button of $$("[data-pick]")) {
  button.addEventListener("click", (event) => {
    event.preventDefault();
    file.click();
  });
}
addEventListener("paste", (event) => lookFor(event.clipboardData.files));
addEventListener("dragover", (event) => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  event.preventDefault();
  $("#drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("#drop").hidden = true;
});
addEventListener("drop", (event) => {
  $("#drop").hidden = true;
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  lookFor(event.dataTransfer.files);
});

// Regions: list and photograph point at each other.
function near(number, on) {
  for (const link of $$(`[data-region="${number}"]`)) link.classList.toggle("near", on);
}
for (const link of $$("[data-region]")) {
  const { region } = link.dataset;
  for (const name of ["pointerenter", "focus"]) link.addEventListener(name, () => near(region, true));
  for (const name of ["pointerleave", "blur"]) link.addEventListener(name, () => near(region, false));
}

// Boxes: drawn anew, or the selected one dragged to where it belongs.
const large = $("svg.large");
let drawing = null;

function place(event) {
  const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(large.getScreenCTM().inverse());
  const { width, height } = large.viewBox.baseVal;
  return [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
}

function shape(name, className) {
  const element = document.createElementNS(SVG, name);
  element.setAttribute("class", className);
  return large.appendChild(element);
}

function put(element, values) {
  for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
}

function show() {
  const [x1, y1, x2, y2] = drawing.box;
  put(drawing.rect, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
  const radius = 7 / large.getScreenCTM().a;
  drawing.handles.forEach((handle, corner) => {
    put(handle, { cx: corner % 2 ? x2 : x1, cy: corner > 1 ? y2 : y1, r: radius });
  });
  const size = large.viewBox.baseVal;
  const enough = (x2 - x1) * (y2 - y1) > size.width * size.height * 0.0004;
  drawing.done.hidden = !enough;
  if (enough) drawing.finish(drawing.box.map((value) => Math.round(value * 10) / 10));
}

function startDrawing(button, box, done, finish) {
  stopDrawing();
  const rect = shape("rect", "drawn");
  const handles = [0, 1, 2, 3].map(() => shape("circle", "handle"));
  drawing = { button, box, done, finish, rect, handles, grip: null };
  button.setAttribute("aria-pressed", "true");
  large.classList.add("drawing");
  show();
}

function stopDrawing() {
  if (!drawing) return;
  for (const element of [drawing.rect, ...drawing.handles]) element.remove();
  drawing.done.hidden = true;
  drawing.button.setAttribute("aria-pressed", "false");
  large.classList.remove("drawing");
  drawing = null;
}

function tool(name, start) {
  const button = $(`[data-tool="${name}"]`);
  button?.addEventListener("click", () => {
    if (drawing?.button === button) stopDrawing();
    else start(button);
  });
}

tool("draw", (button) => {
  const link = $("[data-drawn]");
  startDrawing(button, [0, 0, 0, 0], link, (box) => {
    link.href = large.dataset.draw.replace("BOX", box.join(","));
  });
  say("Draw a box on the photograph");
});

tool("adjust", (button) => {
  const form = $("[data-box-form]");
  const field = form.elements.box;
  startDrawing(button, field.value.split(",").map(Number), form, (box) => {
    field.value = box.join(",");
  });
  say("Drag the corners of the box to where they belong");
});

function grip(at) {
  const [x1, y1, x2, y2] = drawing.box;
  const reach = 22 / large.getScreenCTM().a;
  const corners = [[x1, y1], [x2, y1], [x1, y2], [x2, y2]];
  const corner = x2 > x1 ? corners.findIndex(([x, y]) => Math.hypot(x - at[0], y - at[1]) < reach) : -1;
  if (corner >= 0) return corners[3 - corner];  // the opposite one stays
  const inside = at[0] > x1 && at[0] < x2 && at[1] > y1 && at[1] < y2;
  return inside ? null : at;
}

if (large) {
  large.addEventListener("pointerdown", (event) => {
    if (!drawing) return;
    event.preventDefault();
    large.setPointerCapture(event.pointerId);
    const at = place(event);
    drawing.grip = { fixed: grip(at), at, box: drawing.box };
  });
  large.addEventListener("pointermove", (event) => {
    if (!drawing?.grip) return;
    const [x, y] = place(event);
    const { fixed, at, box } = drawing.grip;
    if (fixed) {
      const [left, top] = fixed;
      drawing.box = [Math.min(left, x), Math.min(top, y), Math.max(left, x), Math.max(top, y)];
    } else {
      const { width, height } = large.viewBox.baseVal;
      const dx = Math.min(Math.max(x - at[0], -box[0]), width - box[2]);
      const dy = Math.min(Math.max(y - at[1], -box[1]), height - box[3]);
      drawing.box = [box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy];
    }
    show();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    large.addEventListener(name, () => {
      if (drawing) drawing.grip = null;
    });
  }
  large.addEventListener("click", (event) => drawing && event.preventDefault(), true);
}

// Thumbs stay in place; the next answer follows them.
for (const form of $$("form[data-teach]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await fetch(form.action, {
      method: "POST",
      headers: { "X-Part": "taught" },
      body: new URLSearchParams(new FormData(form)),
    });
    if (!answer.ok) {
      const { error } = await answer.json();
      say(error);
      $("#thanks span").textContent = error;
    } else {
      for (const button of $$(".thumb", form.parentElement)) {
        button.setAttribute("aria-pressed", String(form.contains(button)));
      }
      say("Kept");
    }
    $("#thanks").hidden = false;
  });
}

// Builds in progress: the part of the page that counts is fetched again. What is opened stays so,
// and what has the focus keeps it.
function renew(old, part) {
  const parts = "details, summary, a";
  const before = $$(parts, old);
  const after = $$(parts, part);
  const focused = before.indexOf(document.activeElement);
  before.forEach((element, n) => {
    if (element.open && after[n]) after[n].open = true;
  });
  old.replaceWith(part);
  if (focused >= 0) after[focused]?.focus({ preventScroll: true });
}

async function poll() {
  const live = $("[data-live]");
  if (!live) return;
  try {
    const answer = await fetch(location.href, { headers: { "X-Part": "live" } });
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const part = $("[data-live]", fresh);
      if (part) renew(live, part);
    }
  } catch {
    // the service has ended or is starting again; the next try will tell
  }
  setTimeout(poll, 2000);
}
setTimeout(poll, 2000);
