// Wires the samples of a comparison: the first report is what the others are compared with.

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const compared = data.compared.map((each) => ({
    name: each.name, kept: bytesOf(each.kept), weight: floatsOf(each.weight),
    columns: each.columns.map(({ label, values }) => [label, floatsOf(values)]),
  }));
  const report = readReport(data);
  report.trained.set(compared[0].kept);
  report.weight = null; // what samples are sorted by is the comparison
  const samples = document.getElementById("samples");
  const [detail, changes, scale] = ["detail", "changes", "scale"].map((id) => document.getElementById(id));
  let other = 1;
  let deepest = 1;

  const view = () => document.body.dataset.view;
  const difference = (i) => compared[other].weight[i] - compared[0].weight[i];

  function status(i, which) {
    const [before, now] = [compared[0].kept[i], compared[which].kept[i]];
    return before === now ? ["dropped", "kept"][now] : ["lost", "gained"][now];
  }

  function paint(token) {
    const i = Number(token.dataset.i);
    const now = status(i, other);
    token.classList.toggle("kept", report.kept[i] === 1);
    token.classList.toggle("dropped", report.kept[i] === 0);
    token.classList.toggle("gained", now === "gained");
    token.classList.toggle("lost", now === "lost");
    if (view() === "kept") return;
    const by = difference(i);
    token.classList.toggle("negative", by < 0);
    token.style.setProperty("--v", Math.min(1, Math.abs(by) / deepest || 0).toFixed(3));
  }

  function showDetail(token) {
    const [i, t] = [Number(token.dataset.i), Number(token.dataset.t)];
    const number = report.samples.findIndex((sample) => i < sample.to);
    const labels = [...new Set(compared.flatMap(({ columns }) => columns.map(([label]) => label)))];
    const rows = compared.map(({ name, weight, columns }, which) => {
      const own = new Map(columns);
      return element("tr", {}, element("th", { scope: "row" }, name),
        element("td", {}, element("span", { class: `piece ${status(i, which)}` }, ["dropped", "kept"][compared[which].kept[i]])),
        element("td", {}, short(weight[i])), ...labels.map((label) => element("td", {}, own.has(label) ? short(own.get(label)[i]) : "–")));
    });
    const head = element("tr", {}, ...["", "status", "weight", ...labels].map((label) => element("th", { scope: "col" }, label)));
    detail.replaceChildren(
      element("bdi", { class: `piece ${status(i, other)}` }, visible(report.texts[report.tokens[t]])),
      element("span", { class: "quiet" }, `token ${report.ids[report.tokens[t]]}, place ${t - report.samples[number].begin}`),
      element("div", { class: "scroll" }, element("table", {}, head, ...rows)));
    samples.querySelector(".token.shown")?.classList.remove("shown");
    token.classList.add("shown");
  }

  function repaint() {
    if (view() !== "kept") {
      deepest = compared[other].weight.reduce((most, _, i) => Math.max(most, Math.abs(difference(i)) || 0), 0) || 1;
      scale.replaceChildren(element("span", {}, short(-deepest)), element("i", { class: "below" }), element("span", {}, "0"),
        element("i"), element("span", {}, short(deepest)));
    }
    samples.querySelectorAll(".token").forEach(paint);
  }

  function choose(which) {
    other = which;
    report.kept.set(compared[which].kept);
    const changed = report.kept.reduce((sum, kept, i) => sum + (kept !== report.trained[i]), 0);
    changes.textContent = `${changed} of ${report.kept.length} tokens (${percent(changed, report.kept.length)}) change their status`;
    repaint();
    samples.querySelectorAll("details.sample").forEach((sample) => {
      showTitle(report, Number(sample.dataset.sample), sample.firstElementChild);
    });
    const shown = samples.querySelector(".token.shown");
    if (shown) showDetail(shown);
  }

  report.kept.set(compared[other].kept);
  samples.append(...report.samples.map((_, number) => makeSample(report, number, paint)));
  choose(other);
  if (samples.firstElementChild) samples.firstElementChild.open = true;
  const updateList = makeList(report, samples);
  for (const input of document.querySelectorAll("input[name=other]")) {
    input.addEventListener("change", () => { choose(Number(input.value)); updateList(); });
  }
  for (const input of document.querySelectorAll("input[name=view]")) {
    input.addEventListener("change", () => { document.body.dataset.view = input.value; repaint(); });
  }
  document.getElementById("open-all").addEventListener("click", (event) => {
    const open = event.target.getAttribute("aria-pressed") !== "true";
    event.target.setAttribute("aria-pressed", open);
    samples.querySelectorAll("details.sample").forEach((sample) => { sample.open = open; });
  });
  for (const event of ["pointerover", "focusin", "click"]) {
    samples.addEventListener(event, ({ target }) => {
      const token = target.closest?.(".token");
      if (token) showDetail(token);
    });
  }
  samples.addEventListener("keydown", moveFocus);
  window.report = report; // to look around in the browser's console
})();
