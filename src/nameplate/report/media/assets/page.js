// What the page does by script: pictures become interactive charts, long tables can be searched, and print
// shows folded tables too.

const holder = document.getElementById("charts");
const charts = JSON.parse(holder.textContent);
const options = {
  renderer: "svg",
  ast: true, // interprets expressions: the page's policy forbids evaluating text as code
  actions: { export: { svg: true, png: false }, source: false, compiled: false, editor: false },
  i18n: { CLICK_TO_VIEW_ACTIONS: holder.dataset.menu, SVG_ACTION: holder.dataset.save },
  downloadFileName: "nameplate",
};

// The chart for a column of `width` pixels, which only the browser knows; each of several panels has that width.
function fitted(spec, width) {
  if (spec.vconcat) {
    const inside = Math.max(160, width - 80);
    return { ...spec, vconcat: spec.vconcat.map((panel) => ({ ...panel, width: inside })) };
  }
  const narrow = width < 520;
  const room = Math.max(90, Math.round(width * (narrow ? 0.38 : 0.42)));
  const axisY = { ...spec.config.axisY, labelLimit: Math.min(room, spec.config.axisY.labelLimit) };
  const config = { ...spec.config, axisY, autosize: { type: "fit-x", contains: "padding" } };
  if (narrow) config.axisX = { labelOverlap: true, tickCount: 4 };
  return { ...spec, config, width };
}

async function draw(element) {
  const width = Math.floor(element.clientWidth);
  if (!width || element.dataset.width === String(width)) return;
  element.dataset.width = String(width);
  const target = document.createElement("div");
  const result = await window.vegaEmbed(target, fitted(charts[element.id], width), options);
  const earlier = element.view;
  element.view = result;
  // The new chart has a role and a label of its own, and its menu must be reachable by a screen reader.
  for (const name of ["role", "aria-label"]) element.removeAttribute(name);
  target.querySelector("summary").setAttribute("aria-label", holder.dataset.menu);
  element.replaceChildren(target);
  if (earlier) earlier.finalize();
}

// Calls the action once, that long after the last of several events.
function soon(action, milliseconds) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, milliseconds);
  };
}

async function drawAll() {
  for (const id of Object.keys(charts)) await draw(document.getElementById(id));
  document.documentElement.dataset.drawn = "true";
}

for (const input of document.querySelectorAll("input[data-rows-of]")) {
  const rows = document.getElementById(input.dataset.rowsOf).tBodies[0].rows;
  input.parentElement.hidden = false;
  input.addEventListener("input", soon(() => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  }, 120));
}

// A chart in a closed section has no width to be drawn for: it is drawn when the section opens.
for (const each of document.querySelectorAll("main details")) {
  each.addEventListener("toggle", () => { if (each.open) drawAll(); });
}

// A link to a section opens it.
function openNamed() {
  const named = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!named) return;
  for (const each of [named.querySelector(":scope > details.section"), named.closest("details.section")]) {
    if (each) each.open = true;
  }
  named.scrollIntoView();
}
addEventListener("hashchange", openNamed);
openNamed();

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("main details:not([open])")];
  for (const each of folded) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of folded) each.open = false;
});
addEventListener("resize", soon(drawAll, 150));
drawAll();
