// The what-if panel. Its formulas are in the JSON of #whatif-model, translated from Python's; it has none of its
// own. Its texts are in the JSON too, and go into the page as text, never as mark-up.
(() => {
  "use strict";

  const holder = document.getElementById("whatif");
  const source = document.getElementById("whatif-model");
  if (!holder || !source) return;
  const model = JSON.parse(source.textContent);
  const words = model.words;

  // Formulas: a tree is a number, a name, or [operation, tree, ...].

  const OPERATIONS = {
    "+": (a, b) => a + b,
    "-": (a, b) => (b === undefined ? -a : a - b),
    "*": (a, b) => a * b,
    "/": (a, b) => a / b,
    exp: Math.exp,
  };

  function evaluate(tree, known) {
    if (typeof tree === "number") return tree;
    if (typeof tree === "string") return known.get(tree);
    const [operation, ...parts] = tree;
    return OPERATIONS[operation](...parts.map((part) => evaluate(part, known)));
  }

  // Every figure that is known or can be computed; `values` are the known inputs of the panel.
  function compute(fleet, values) {
    const found = new Map([...Object.entries(fleet.known), ...values]);
    const factors = fleet.controls.filter((each) => each.group === "derates").map((each) => each.name);
    const derate = { name: "derate", needs: factors, tree: fleet.derate };
    for (const { name, needs, tree } of [derate, ...model.formulas]) {
      if (!found.has(name) && needs.every((need) => found.has(need))) found.set(name, evaluate(tree, found));
    }
    return found;
  }

  // Numbers, as formatting.py prints them.

  // Rounds to the nearest, a tie to the even digit, as Python does. A double that is a tie has fewer than 100 digits.
  function roundTo(value, digits) {
    const exact = value.toFixed(100);
    const cut = exact.indexOf(".") + 1 + digits;
    const down = exact.slice(0, digits ? cut : cut - 1);
    const tie = /^50*$/.test(exact.slice(cut));
    return tie && "02468".includes(down.at(-1)) ? down : value.toFixed(digits);
  }

  function groupThousands(text) {
    const [whole, ...rest] = text.split(".");
    return [whole.replace(/\B(?=(\d{3})+$)/g, ","), ...rest].join(".");
  }

  // The power of ten of the first digit, after rounding to three significant digits.
  function exponentOf(value) {
    return value === 0 ? 2 : Number(value.toExponential(2).split("e")[1]);
  }

  // Three significant digits, whole numbers in full.
  function formatThreeDigits(value) {
    return groupThousands(roundTo(value, Math.max(0, 2 - exponentOf(value))));
  }

  // Three significant digits; in millions from a million on.
  function formatRmb(value) {
    const step = 10 ** Math.max(0, exponentOf(value) - 2);
    const rounded = step > 1 ? Number(roundTo(value / step, 0)) * step : value;
    if (Math.abs(rounded) >= 1e6) return fill(words.rmb_millions, { value: formatThreeDigits(value / 1e6) });
    return fill(words.rmb, { value: formatThreeDigits(rounded) });
  }

  const KINDS = {
    figure: formatThreeDigits,
    count: (value) => groupThousands(roundTo(Math.ceil(Number(roundTo(value, 6))), 0)),
    rmb: formatRmb,
  };

  function formatFigure(figure, value) {
    if (value === undefined || value === null) return "–";
    return fill(figure.text, { value: KINDS[figure.kind](value) });
  }

  // One decimal; two below 1 %.
  function formatChange(before, after) {
    if (before === null || after === undefined) return "–";
    if (before === after) return words.none;
    const share = (after / before - 1) * 100;
    const percent = roundTo(share, Math.abs(Number(roundTo(share, 2))) >= 1 ? 1 : 2);
    const sign = Number(percent) === 0 || percent.startsWith("-") ? "" : "+";
    return `${sign}${groupThousands(Number(percent) === 0 ? percent.replace("-", "") : percent)}%`;
  }

  // The page's elements.

  function fill(template, places) {
    return template.replace(/\{(\w+)\}/g, (_, name) => places[name]);
  }

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  // One input: a number field and a slider for the same value, which is null while there is none.
  function makeField(control, changed) {
    const id = `whatif-${control.name}`;
    const [from, to, step] = control.slider;
    const number = element("input", {
      id, type: "number", inputmode: "decimal", autocomplete: "off", step, placeholder: words.unknown,
      min: control.least, max: control.most, "aria-describedby": `${id}-hint`,
    });
    const slider = element("input", {
      type: "range", min: from, max: to, step,
      "aria-labelledby": `${id}-label`, "aria-describedby": `${id}-hint`,
    });
    const hint = element("p", { id: `${id}-hint`, class: "whatif-hint" });
    const field = { control, value: control.value };

    function accept(value) {
      field.refused = value === null ? control.value !== null : !isAllowed(value);
      field.value = field.refused ? null : value;
      number.setAttribute("aria-invalid", field.refused);
      hint.textContent = field.refused ? makeRefusal() : control.hint;
      slider.setAttribute("aria-valuetext", `${field.value ?? words.unknown} ${control.unit}`.trim());
    }

    // Text that isn't a number is NaN here, which isn't allowed: no comparison with it is true.
    function isAllowed(value) {
      return value >= control.least && (control.most === null || value <= control.most);
    }

    function makeRefusal() {
      return fill(control.most === null ? words.refused_above : words.refused, control);
    }

    field.reset = () => {
      // A field shows eight digits of the model's value; the value itself keeps all of them.
      number.value = control.value === null ? "" : Number(control.value.toPrecision(8));
      slider.value = control.value ?? from;
      accept(control.value);
    };
    number.addEventListener("input", () => {
      const blank = number.value === "" && !number.validity.badInput;
      accept(blank ? null : number.value === "" ? NaN : Number(number.value));
      if (field.value !== null) slider.value = field.value;
      changed();
    });
    slider.addEventListener("input", () => {
      number.value = slider.value;
      accept(Number(slider.value));
      changed();
    });
    field.element = element(
      "div", { class: "whatif-field" },
      element("label", { for: id, id: `${id}-label` }, control.label), number, slider, hint,
    );
    field.reset();
    return field;
  }

  function makeGroup(name, fields, ...before) {
    const mine = fields.filter((field) => field.control.group === name).map((field) => field.element);
    if (!mine.length) return "";
    const grid = element("div", { class: "whatif-fields" }, ...mine);
    if (name === "more") {
      return element("details", { class: "whatif-more" }, element("summary", {}, words.groups[name]), grid);
    }
    return element("fieldset", {}, element("legend", {}, words.groups[name]), ...before, grid);
  }

  function makeSources(controls) {
    const said = controls.filter((control) => control.source);
    const lines = said.flatMap(({ label, source: from }) => [element("dt", {}, label), element("dd", {}, from)]);
    return element(
      "details", { class: "whatif-sources" }, element("summary", {}, words.sources), element("dl", {}, ...lines),
    );
  }

  function makeRow(figure) {
    const columns = ["model", "what_if", "change"];
    const cells = columns.map((column) => element("td", { role: "cell", "data-column": column }));
    const name = element("th", { role: "rowheader", scope: "row" }, figure.label);
    return { figure, cells, row: element("tr", { role: "row", "data-figure": figure.name }, name, ...cells) };
  }

  // The panel: a fleet, its inputs, its figures.

  const choice = element(
    "select", { id: "whatif-fleet" },
    ...model.fleets.map((fleet, index) => element("option", { value: index }, fleet.label)),
  );
  const reset = element("button", { type: "button" }, words.reset);
  const inputs = element("div", { class: "whatif-inputs" });
  const summary = element("p", { class: "whatif-summary", role: "status", "aria-live": "polite" });
  const rows = model.figures.map(makeRow);
  const caption = element("caption", {});
  // Roles are explicit: a narrow page lays rows out as grids, and some screen readers then drop a table's roles.
  const heads = ["figure", "model", "what_if", "change"].map((column) => {
    return element("th", { role: "columnheader", scope: "col" }, words[column]);
  });
  const table = element(
    "table", { role: "table" }, caption,
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...heads)),
    element("tbody", { role: "rowgroup" }, ...rows.map((each) => each.row)),
  );
  let fleet, fields, saying, usual;

  function choose() {
    fleet = model.fleets[Number(choice.value)];
    fields = fleet.controls.map((control) => makeField(control, update));
    inputs.replaceChildren(
      makeGroup("price", fields),
      makeGroup("derates", fields, element("p", { class: "whatif-hint" }, fleet.rated)),
      makeGroup("more", fields),
      makeSources(fleet.controls),
    );
    caption.textContent = fleet.label;
    usual = compute(fleet, readFields());
    update();
  }

  function readFields() {
    return fields.filter((field) => field.value !== null).flatMap(({ control, value }) => [
      [control.name, value], ...Object.entries(control.brings),
    ]);
  }

  function update() {
    const found = compute(fleet, readFields());
    const changes = rows.map((row) => updateRow(row, fleet.model[row.figure.name], follow(row.figure.name, found)));
    // A screen reader would read every step of a moving slider: the sentence waits until the slider rests.
    clearTimeout(saying);
    saying = setTimeout(() => (summary.textContent = makeSentence(changes)), 300);
  }

  // The model's figure is the middle of its draws, and a formula gives a point: the figure follows the point's change.
  function follow(name, found) {
    const before = fleet.model[name] ?? null, point = usual.get(name), now = found.get(name);
    return before === null || point === undefined || now === undefined ? now : before * (now / point);
  }

  function updateRow({ figure, cells: [was, now, changed] }, before, after) {
    show(was, formatFigure(figure, before), before);
    show(now, formatFigure(figure, after), after);
    changed.textContent = formatChange(before, after);
    const same = (before ?? undefined) === after;
    const matters = !same && figure.better && before !== null && after !== undefined;
    const cheaper = figure.better === "more" ? after > before : after < before;
    changed.className = matters ? (cheaper ? "whatif-good" : "whatif-bad") : "";
    const clause = after !== undefined && figure.headline && fill(figure.headline, { value: now.textContent });
    return { same, clause, change: changed.textContent };
  }

  function show(cell, text, value) {
    cell.textContent = text;
    if (value === undefined || value === null) delete cell.dataset.value;
    else cell.dataset.value = value;
  }

  function makeSentence(changes) {
    if (fields.some((field) => field.refused)) return fill(words.unread, { fleet: fleet.name });
    if (changes.every((each) => each.same)) return fill(words.untouched, { fleet: fleet.name });
    const news = changes.filter((each) => each.clause && !each.same);
    const figures = news.map(({ clause, change }) => fill(words.headline, { figure: clause, change }));
    return fill(words.changed, { fleet: fleet.name, figures: figures.join(words.between) });
  }

  choice.value = model.first;
  choice.addEventListener("change", choose);
  reset.addEventListener("click", () => {
    for (const field of fields) field.reset();
    update();
  });
  holder.replaceChildren(
    element("div", { class: "whatif-choice" }, element("label", { for: "whatif-fleet" }, words.fleet), choice, reset),
    element("div", { class: "whatif-body" }, inputs, element("div", { class: "whatif-results" }, summary, table)),
  );
  choose();
})();
