// The page's own behaviour: pictures become charts that answer, long tables can be searched, print shows all.

const holder = document.getElementById("charts");
const charts = JSON.parse(holder.textContent);
const options = {
  renderer: "svg",
  ast: true, // expressions are interpreted, so that the page allows no evaluation of text
  actions: { export: { svg: true, png: false }, source: false, compiled: false, editor: false },
  i18n: { CLICK_TO_VIEW_ACTIONS: holder.dataset.menu, SVG_ACTION: holder.dataset.save },
  downloadFileName: "nameplate",
};

// A chart is as wide as its column; one of several panels has its width in each of them.
function fitted(spec, width) {
  const narrow = width < 520;
  const room = Math.max(90, Math.round(width * (narrow ? 0.38 : 0.42)));
  const axisY = { ...spec.config.axisY, labelLimit: Math.min(room, 400) };
  const axisX = narrow ? { ...spec.config.axisX, labelOverlap: true, tickCount: 4 } : spec.config.axisX;
  const config = { ...spec.config, axisY, axisX, autosize: { type: "fit-x", contains: "padding" } };
  if (!spec.vconcat) return { ...spec, config, width };
  const inside = Math.max(160, width - 80);
  return { ...spec, config: { ...spec.config }, vconcat: spec.vconcat.map((one) => ({ ...one, width: inside })) };
}

async function draw(element) {
  const width = Math.floor(element.clientWidth);
  if (!width || element.dataset.width === String(width)) return;
  element.dataset.width = String(width);
  const target = document.createElement("div");
  const result = await window.vegaEmbed(target, fitted(charts[element.id], width), options);
  const earlier = element.view;
  element.view = result;
  // The chart within has a role and a label of its own, and its menu must be reachable.
  for (const name of ["role", "aria-label"]) element.removeAttribute(name);
  target.querySelector("summary").setAttribute("aria-label", holder.dataset.menu);
  element.replaceChildren(target);
  if (earlier) earlier.finalize();
}

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
