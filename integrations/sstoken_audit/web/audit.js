"use strict";
// Lists the rows, the most suspicious first; filters by check, searches, sorts.

(() => {
  const { checks, beside, rows } = JSON.parse(document.getElementById("data").textContent);
  const STEP = 50;
  const [list, more, count, search, sort, filters] =
    ["rows", "more", "count", "search", "sort", "filters"].map((id) => document.getElementById(id));
  const wanted = new Set(); // numbers of checks; none: all rows
  let found = rows;
  let shown = 0;
  let timer;

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function card(row) {
    const meter = element("span", { class: "meter", role: "img", "aria-label": `suspicion ${row.suspicion.toFixed(2)}` }, element("i"));
    meter.firstChild.style.setProperty("--v", row.suspicion);
    const head = element("div", { class: "head" }, element("b", {}, `Row ${row.row}`), meter,
      element("span", { class: "quiet" }, row.suspicion.toFixed(2)),
      ...row.checks.map((i) => element("span", { class: "tag", title: checks[i].title }, checks[i].name)));
    const values = [...checks.map(({ name }, i) => [name, row.values[i]]), ...beside.map((name, i) => [name, row.beside[i]])]
      .map(([name, value]) => (value === null ? null : `${name} ${value}`));
    return element("li", { class: row.flagged ? "row flagged" : "row", "data-row": row.row }, head,
      element("ul", { class: "reasons" }, ...row.reasons.map((reason) => element("li", {}, element("bdi", {}, reason)))),
      element("p", { class: "text prompt", dir: "auto" }, row.prompt),
      element("p", { class: "text answer", dir: "auto" }, row.answer),
      element("details", { class: "values" }, element("summary", {}, "All numbers"), values.filter(Boolean).join(" · ")));
  }

  function draw() {
    const next = found.slice(shown, shown + STEP);
    list.append(...next.map(card));
    shown += next.length;
    more.hidden = shown >= found.length;
  }

  function matches(row, words) {
    if (wanted.size && !row.checks.some((i) => wanted.has(i))) return false;
    if (!words) return true;
    return [row.prompt, row.answer, `row ${row.row}`, ...row.reasons].some((text) => text.toLowerCase().includes(words));
  }

  function update() {
    const words = search.value.trim().toLowerCase();
    found = rows.filter((row) => matches(row, words));
    const by = sort.value;
    const lowest = beside.indexOf(by);
    if (by === "row") found.sort((a, b) => a.row - b.row);
    else if (lowest >= 0) found.sort((a, b) => (a.beside[lowest] ?? Infinity) - (b.beside[lowest] ?? Infinity) || a.row - b.row);
    else if (by !== "suspicion") found.sort((a, b) => (b.values[by] ?? -Infinity) - (a.values[by] ?? -Infinity) || a.row - b.row);
    list.replaceChildren();
    shown = 0;
    draw();
    count.textContent = `${found.length} of ${rows.length} rows`;
  }

  checks.forEach((check, i) => {
    const n = rows.filter((row) => row.checks.includes(i)).length;
    const button = element("button", { type: "button", "aria-pressed": "false", title: check.title, "data-check": check.name },
      `${check.name} ${n}`);
    button.disabled = n === 0;
    button.addEventListener("click", () => {
      if (wanted.has(i)) wanted.delete(i);
      else wanted.add(i);
      button.setAttribute("aria-pressed", wanted.has(i));
      update();
    });
    filters.append(button);
  });
  sort.append(element("option", { value: "suspicion" }, "suspicion"), element("option", { value: "row" }, "row number"),
    ...checks.map((check, i) => element("option", { value: i }, check.name)),
    ...beside.map((name) => element("option", { value: name }, `${name}, lowest first`)));
  sort.addEventListener("change", update);
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(update, 120);
  });
  more.addEventListener("click", draw);
  update();
})();
