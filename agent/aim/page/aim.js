"use strict";
// The technician's page: one document a second is shown, zones are drawn over it. Nothing is loaded from elsewhere.

const WORDS = {
  en: {
    title: "Aim", language: "Language", end: "Close the view", view: "View", camera: "Camera", zones: "Zones",
    new: "Draw a zone", finish: "Close the polygon", edit: "This zone", name: "Name",
    directed: "Warn of movement against the arrow", calibrated: "Four points on the ground are measured",
    across: "From point 1 to 2, metres", along: "From point 2 to 3, metres", delete: "Delete this zone and its rules",
    save: "Save", discard: "Discard", undo: "Undo the last saving", kept: "Saved to", sound: "Sound",
    silence: "There is no microphone, or nothing may be listened for.", level: "Level",
    left: (s) => `${Math.floor(s / 60)} min ${s % 60} s left`, over: "This view is over: start another one with vigie aim.",
    hint: "Strokes are edges of the place; grey is not known yet: stand back for a minute. Markers are people and vehicles, never pictures.",
    drawing: "Tap the corners, then close the polygon. From the keyboard: close it at once, and move the corners with the arrow keys.",
    moving: "Arrow keys move a corner, with Shift finer; + adds one behind it, Delete takes it away.",
    corner: (n, z) => `Corner ${n} of ${z}`, point: (n, z) => `Point ${n} on the ground of ${z}`, arrow: (z) => `Direction of ${z}`,
    saved: "Saved. The agent takes the zones over when the view is closed.", unsaved: "There are changes that are not saved.",
    undone: "The last saving is undone.", failed: "Not saved:", sure: (z) => `Delete ${z} and its rules?`,
    persons: (n) => n === 1 ? "1 person" : `${n} people`, see: "sees now", no_rule: "no rule", seen: "known",
    states: { connecting: "connecting", live: "live", stalled: "stalled", lost: "lost", ended: "ended", silent: "silent", clipping: "clipping: lower the gain", paused: "paused" },
    sounds: { gunshot: "gunshot", explosion: "explosion", glass_break: "glass", scream: "scream", crowd_clamour: "clamour", siren: "siren", horn: "horn" },
  },
  fr: {
    title: "Visée", language: "Langue", end: "Fermer la vue", view: "Vue", camera: "Caméra", zones: "Zones",
    new: "Dessiner une zone", finish: "Fermer le polygone", edit: "Cette zone", name: "Nom",
    directed: "Avertir d'un mouvement contre la flèche", calibrated: "Quatre points au sol sont mesurés",
    across: "Du point 1 au point 2, mètres", along: "Du point 2 au point 3, mètres", delete: "Supprimer cette zone et ses règles",
    save: "Enregistrer", discard: "Abandonner", undo: "Annuler le dernier enregistrement", kept: "Enregistré dans", sound: "Son",
    silence: "Il n'y a pas de micro, ou rien ne peut être écouté.", level: "Niveau",
    left: (s) => `encore ${Math.floor(s / 60)} min ${s % 60} s`, over: "Cette vue est terminée : ouvrez-en une autre avec vigie aim.",
    hint: "Les traits sont les contours du lieu ; le gris n'est pas encore connu : écartez-vous une minute. Les repères sont des personnes et des véhicules, jamais des images.",
    drawing: "Touchez les coins, puis fermez le polygone. Au clavier : fermez-le tout de suite, et déplacez les coins avec les flèches.",
    moving: "Les flèches déplacent un coin, plus finement avec Maj ; + en ajoute un après lui, Suppr l'enlève.",
    corner: (n, z) => `Coin ${n} de ${z}`, point: (n, z) => `Point ${n} au sol de ${z}`, arrow: (z) => `Direction de ${z}`,
    saved: "Enregistré. L'agent prend les zones en compte à la fermeture de la vue.", unsaved: "Des changements ne sont pas enregistrés.",
    undone: "Le dernier enregistrement est annulé.", failed: "Pas enregistré :", sure: (z) => `Supprimer ${z} et ses règles ?`,
    persons: (n) => n === 1 ? "1 personne" : `${n} personnes`, see: "voit", no_rule: "aucune règle", seen: "connu",
    states: { connecting: "connexion", live: "en direct", stalled: "arrêtée", lost: "perdue", ended: "terminée", silent: "silencieux", clipping: "saturé : baissez le gain", paused: "en pause" },
    sounds: { gunshot: "coup de feu", explosion: "explosion", glass_break: "verre", scream: "cri", crowd_clamour: "clameur", siren: "sirène", horn: "klaxon" },
  },
};
const CELL = 10; // units of the drawing across a cell
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

let words = WORDS.en;
let view = null; // the latest document
let cameras = []; // zones of each camera as they are edited
let camera = 0;
let chosen = -1; // place of the zone that is edited
let sketch = null; // corners of a zone that is being drawn
let dirty = false;
let over = false;
let pressed = false; // between the press and the release of a button or finger, nothing is redrawn: it would be lost

function element(parent, name, attributes, text) {
  const made = parent instanceof SVGElement ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return parent.appendChild(made);
}

const zones = () => cameras[camera] ? cameras[camera].zones : [];
const seen = () => view && view.cameras[camera];
function size() {
  const grid = seen() && seen().grid[1] ? seen().grid : [96, 54];
  return [grid[0] * CELL, grid[1] * CELL];
}
// Units of the drawing to a pixel of the screen: what is held with a finger is as large on every screen.
const unit = () => Math.max(0.8, size()[0] / ($("view").clientWidth || size()[0]));
const place = ([x, y]) => { const [w, h] = size(); return [x * w, y * h]; };
const middle = (points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);

function say(message, problems = []) {
  $("message").textContent = message;
  $("problems").replaceChildren();
  for (const problem of problems) element($("problems"), "li", {}, problem);
}

function touch() {
  dirty = true;
  say(words.unsaved);
  draw();
}

// What the camera sees: strokes, and markers of one shape.
function drawView() {
  const now = seen();
  if (!now) return;
  const [columns, rows] = now.grid[1] ? now.grid : [96, 54];
  $("view").setAttribute("viewBox", `0 0 ${columns * CELL} ${rows * CELL}`);
  let strokes = "", unknown = "", known = 0;
  for (let at = 0; at < columns * rows; at += 1) {
    const code = Number(now.drawing[at] || 0), x = (at % columns) * CELL, y = Math.floor(at / columns) * CELL;
    if (code === 0) unknown += `M${x} ${y}h${CELL}v${CELL}h-${CELL}z`;
    else known += 1;
    if (code >= 2) {
      const angle = (code - 2) * Math.PI / 4, dx = Math.cos(angle) * CELL / 2, dy = Math.sin(angle) * CELL / 2;
      strokes += `M${(x + CELL / 2 - dx).toFixed(1)} ${(y + CELL / 2 - dy).toFixed(1)}L${(x + CELL / 2 + dx).toFixed(1)} ${(y + CELL / 2 + dy).toFixed(1)}`;
    }
  }
  $("strokes").setAttribute("d", strokes);
  $("unknown").setAttribute("d", unknown);
  $("markers").replaceChildren();
  for (const [kind, x, y] of now.markers) {
    const where = `translate(${(x + 0.5) * CELL} ${(y + 0.5) * CELL}) scale(${0.8 * unit()})`;
    element($("markers"), "use", { href: kind ? "#vehicle" : "#person", transform: where });
  }
  $("state").textContent = `${words.states[now.state] || now.state}, ${Math.floor(100 * known / (columns * rows))} % ${words.seen}`;
}

function lights(name) {
  return seen() ? seen().open.filter(([, zone]) => zone === name).map(([type]) => type) : [];
}

function drawZones() {
  $("zones").replaceChildren();
  zones().forEach((zone, index) => {
    const lit = lights(zone.was).length ? " lit" : "";
    const points = zone.polygon.map((point) => place(point).join(",")).join(" ");
    const polygon = element($("zones"), "polygon", { points, class: `zone${index === chosen ? " chosen" : ""}${lit}`, "data-zone": zone.name });
    polygon.addEventListener("click", () => { if (!sketch) choose(index); });
    const [x, y] = place(middle(zone.polygon));
    element($("zones"), "text", { x, y, class: "label", "text-anchor": "middle", "font-size": 15 * unit() }, zone.name);
    if (zone.direction) {
      const [tx, ty] = tip(zone);
      element($("zones"), "path", { class: "arrow", d: `M${x} ${y}L${tx} ${ty}` });
    }
  });
  if (sketch && sketch.length) {
    element($("zones"), "polyline", { points: sketch.map((point) => place(point).join(",")).join(" "), class: "zone" });
  }
}

const REACH = 0.15; // length of the arrow, of the picture's width
function tip(zone) {
  const [x, y] = place(middle(zone.polygon)), [dx, dy] = zone.direction, length = Math.hypot(dx, dy) || 1;
  const [width] = size();
  return [x + dx / length * REACH * width, y + dy / length * REACH * width];
}

// Corners, points on the ground and the tip of the arrow are moved with a finger, a mouse or the arrow keys.
function drawHandles() {
  const held = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.handle : undefined;
  $("handles").replaceChildren();
  const zone = zones()[chosen];
  if (!zone) return;
  zone.polygon.forEach((point, n) => handle(`corner ${n}`, words.corner(n + 1, zone.name), () => place(zone.polygon[n]), "", {
    move: (to) => { zone.polygon[n] = to; },
    more: () => {
      const next = zone.polygon[(n + 1) % zone.polygon.length];
      zone.polygon.splice(n + 1, 0, middle([zone.polygon[n], next]));
    },
    less: () => { if (zone.polygon.length > 3) zone.polygon.splice(n, 1); },
  }));
  if (zone.calibration) {
    zone.calibration.picture.forEach((point, n) => handle(`point ${n}`, words.point(n + 1, zone.name), () => place(zone.calibration.picture[n]), " ground", {
      move: (to) => { zone.calibration.picture[n] = to; },
    }));
  }
  if (zone.direction) {
    handle("arrow", words.arrow(zone.name), () => tip(zone), "", {
      move: (to) => {
        const from = place(middle(zone.polygon)), [x, y] = place(to), length = Math.hypot(x - from[0], y - from[1]);
        if (length > 1) zone.direction = [(x - from[0]) / length, (y - from[1]) / length];
      },
    });
  }
  if (held) {
    const again = $("handles").querySelector(`[data-handle="${held}"]`);
    if (again) again.focus();
  }
}

function handle(id, label, where, kind, does) {
  const [x, y] = where();
  const knob = element($("handles"), "circle", {
    cx: x, cy: y, r: 11 * unit(), class: `handle${kind}`, tabindex: 0, role: "button", "aria-label": label, "data-handle": id,
  });
  knob.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    knob.focus();
    const follow = (moved) => { does.move(fraction(moved)); const [cx, cy] = where(); knob.setAttribute("cx", cx); knob.setAttribute("cy", cy); drawZones(); };
    const drop = () => {
      window.removeEventListener("pointermove", follow);
      window.removeEventListener("pointerup", drop);
      window.removeEventListener("pointercancel", drop);
      touch();
    };
    window.addEventListener("pointermove", follow);
    window.addEventListener("pointerup", drop);
    window.addEventListener("pointercancel", drop);
  });
  knob.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.002 : 0.01, [w, h] = size(), [cx, cy] = where();
    const steps = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (steps[event.key]) does.move([clamp(cx / w + steps[event.key][0], 0, 1), clamp(cy / h + steps[event.key][1], 0, 1)]);
    else if (event.key === "+" && does.more) does.more();
    else if (event.key === "Delete" && does.less) does.less();
    else return;
    event.preventDefault();
    touch();
  });
}

function fraction(event) {
  const box = $("view").getBoundingClientRect();
  return [clamp((event.clientX - box.left) / box.width, 0, 1), clamp((event.clientY - box.top) / box.height, 0, 1)];
}

function drawList() {
  $("list").replaceChildren();
  zones().forEach((zone, index) => {
    const item = element($("list"), "li", {});
    const button = element(item, "button", { type: "button", "aria-pressed": index === chosen }, zone.name);
    button.addEventListener("click", () => choose(index === chosen ? -1 : index));
    const now = seen() ? seen().persons[zone.was] : undefined;
    const rules = (zone.rules || []).join(", ") || words.no_rule;
    element(item, "span", {}, ` ${rules}${now === undefined ? "" : `: ${words.persons(now)}`}`);
    for (const type of lights(zone.was)) element(item, "span", { class: "lit-word" }, ` ${words.see}: ${type}`);
  });
}

function draw() {
  drawView();
  drawZones();
  drawHandles();
  const listed = document.activeElement && $("list").contains(document.activeElement) ? [...$("list").querySelectorAll("button")].indexOf(document.activeElement) : -1;
  drawList();
  if (listed >= 0 && $("list").querySelectorAll("button")[listed]) $("list").querySelectorAll("button")[listed].focus();
  const zone = zones()[chosen];
  $("edit").hidden = !zone;
  $("finish").hidden = !sketch;
  $("hint").textContent = sketch ? words.drawing : zone ? words.moving : words.hint;
  if (!zone) return;
  if (document.activeElement !== $("name")) $("name").value = zone.name;
  $("directed").checked = Boolean(zone.direction);
  $("calibrated").checked = Boolean(zone.calibration);
  $("metres").hidden = !zone.calibration;
  if (zone.calibration) {
    const far = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]);
    const ground = zone.calibration.ground_m;
    if (document.activeElement !== $("across")) $("across").value = Math.round(10 * far([ground[0], ground[1]])) / 10;
    if (document.activeElement !== $("along")) $("along").value = Math.round(10 * far([ground[1], ground[2]])) / 10;
  }
}

function choose(index) {
  chosen = index;
  draw();
}

function drawSound() {
  const sound = view && view.sound;
  $("sound").hidden = !sound;
  $("silence").hidden = Boolean(sound);
  if (sound) {
    $("level").value = sound.level_dbfs;
    $("decibels").textContent = `${sound.level_dbfs} dBFS, ${words.states[sound.state] || sound.state}`;
    $("bars").replaceChildren();
    for (const [name, tenths] of Object.entries(sound.bars)) {
      const item = element($("bars"), "li", {}), label = element(item, "label", {}, `${words.sounds[name]} `);
      element(label, "meter", { min: 0, max: 10, value: tenths });
      if (sound.open.some(([type]) => type === `sound.${name}`)) element(item, "span", { class: "lit-word" }, ` ${words.see}`);
    }
  }
  $("refused").replaceChildren();
  for (const reason of (view && view.refused) || []) element($("refused"), "li", {}, reason);
}

function speak(language) {
  words = WORDS[language] || WORDS.en;
  document.documentElement.lang = language;
  document.title = `Vigie: ${words.title.toLowerCase()}`;
  for (const item of document.querySelectorAll("[data-word]")) item.textContent = words[item.dataset.word];
  draw();
  drawSound();
}

function show(found) {
  cameras = found.cameras.map((one) => ({ ...one, zones: one.zones.map((zone) => ({ ...zone, was: zone.name })) }));
  $("file").textContent = found.file;
  $("undo").disabled = !found.undo;
  const options = cameras.map((one, index) => { const option = document.createElement("option"); option.value = index; option.textContent = one.name; return option; });
  $("camera").replaceChildren(...options);
  $("camera").value = camera;
  dirty = false;
  chosen = Math.min(chosen, zones().length - 1);
  draw();
}

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, { ...options, cache: "no-store", credentials: "same-origin" });
  if (response.status === 410 || response.status === 403) close();
  return response;
}

function close() {
  over = true;
  for (const id of ["view", "save", "undo", "new", "end", "edit", "sound"]) $(id).hidden = true;
  $("left").textContent = words.over;
  say(words.over);
}

async function change(path, body, done) {
  let response;
  try {
    response = await ask(path, body);
  } catch {
    return close();
  }
  const answer = await response.json().catch(() => ({ problems: [] }));
  if (response.ok) {
    show(answer);
    say(done);
  } else if (!over) {
    say(words.failed, answer.problems);
  }
}

async function look() {
  try {
    const response = await ask("/view");
    if (!response.ok) return;
    $("left").textContent = words.left(Number(response.headers.get("X-Vigie-Left")));
    view = await response.json();
  } catch {
    return close();
  }
  if (pressed) return;
  drawView();
  if (!document.activeElement || !$("handles").contains(document.activeElement)) draw();
  else { drawZones(); drawList(); }
  drawSound();
}

window.addEventListener("pointerdown", () => { pressed = true; }, true);
for (const name of ["pointerup", "pointercancel"]) {
  window.addEventListener(name, () => setTimeout(() => { pressed = false; }), true); // behind the click that follows
}
$("language").addEventListener("change", () => speak($("language").value));
$("camera").addEventListener("change", () => { camera = Number($("camera").value); chosen = -1; sketch = null; draw(); });
$("new").addEventListener("click", () => { sketch = []; choose(-1); });
$("view").addEventListener("click", (event) => {
  if (!sketch) return;
  sketch.push(fraction(event));
  draw();
});
$("finish").addEventListener("click", () => {
  const corners = sketch.length >= 3 ? sketch : [[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]];
  let number = 1;
  while (cameras.some((one) => one.zones.some((zone) => zone.name === `zone-${number}`))) number += 1;
  zones().push({ was: null, name: `zone-${number}`, polygon: corners, direction: null, calibration: null, rules: [] });
  sketch = null;
  chosen = zones().length - 1;
  touch();
  $("name").focus();
});
$("name").addEventListener("input", () => { zones()[chosen].name = $("name").value.trim(); touch(); });
$("directed").addEventListener("change", () => { zones()[chosen].direction = $("directed").checked ? [1, 0] : null; touch(); });
$("calibrated").addEventListener("change", () => {
  const zone = zones()[chosen], [x, y] = middle(zone.polygon);
  const at = (dx, dy) => [clamp(x + dx, 0, 1), clamp(y + dy, 0, 1)];
  zone.calibration = $("calibrated").checked
    ? { picture: [at(-0.08, -0.05), at(0.08, -0.05), at(0.1, 0.06), at(-0.1, 0.06)], ground_m: [[0, 0], [5, 0], [5, 5], [0, 5]] } : null;
  touch();
});
for (const id of ["across", "along"]) {
  $(id).addEventListener("input", () => {
    const w = Number($("across").value), d = Number($("along").value);
    if (w > 0 && d > 0) { zones()[chosen].calibration.ground_m = [[0, 0], [w, 0], [w, d], [0, d]]; touch(); }
  });
}
$("delete").addEventListener("click", () => {
  if (!window.confirm(words.sure(zones()[chosen].name))) return;
  zones().splice(chosen, 1);
  chosen = -1;
  touch();
});
$("save").addEventListener("click", () => change("/zones", {
  camera: cameras[camera].name,
  zones: zones().map(({ was, name, polygon, direction, calibration }) => ({ was, name, polygon, direction, calibration })),
}, words.saved));
$("undo").addEventListener("click", () => change("/undo", {}, words.undone));
$("discard").addEventListener("click", async () => { const response = await ask("/zones"); if (response.ok) { show(await response.json()); say(""); } });
$("end").addEventListener("click", async () => { await ask("/end", {}).catch(() => undefined); close(); });

(async () => {
  const language = (navigator.language || "en").startsWith("fr") ? "fr" : "en";
  $("language").value = language;
  const response = await ask("/zones");
  if (response.ok) show(await response.json());
  speak(language);
  await look();
  const timer = setInterval(() => { if (over) clearInterval(timer); else look(); }, 1000);
})();
