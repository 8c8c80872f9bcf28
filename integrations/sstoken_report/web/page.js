// Wires the controls to the samples.

(() => {
  const report = readReport(JSON.parse(document.getElementById("data").textContent));
  const samples = document.getElementById("samples");
  const [detail, changes, scale] = ["detail", "changes", "scale"].map((id) => document.getElementById(id));
  const shades = new Map(measures(report).map(([name, , values]) => [name, { values, signed: false, deepest: 1 }]));
  let later; // the timer of what waits until a slider rests

  const view = () => document.body.dataset.view;

  // What counts as the full colour, and whether there are two.
  function measureShades({ values }) {
    const sizes = Float32Array.from(values, Math.abs).filter(Number.isFinite).sort();
    const deepest = sizes[Math.floor(0.98 * (sizes.length - 1))] || 1;
    return { values, deepest, signed: values.some((value) => value < 0) && values.some((value) => value > 0) };
  }

  function paint(token) {
    const i = Number(token.dataset.i);
    token.classList.toggle("kept", report.kept[i] === 1);
    token.classList.toggle("dropped", report.kept[i] === 0);
    if (view() === "kept") return;
    const { values, deepest, signed } = shades.get(view());
    token.classList.toggle("negative", signed && values[i] < 0);
    token.style.setProperty("--v", Math.min(1, Math.abs(values[i]) / deepest || 0).toFixed(3));
  }

  function paintAll() {
    if (view() !== "kept") {
      const values = measures(report).find(([name]) => name === view())[2];
      const shade = measureShades({ values });
      shades.set(view(), shade);
      const sign = shade.signed || !shade.values.some((value) => value < 0) ? "" : "−";
      scale.replaceChildren(
        ...(shade.signed ? [element("span", {}, short(-shade.deepest)), element("i", { class: "below" })] : []),
        element("span", {}, "0"), element("i"), element("span", {}, sign + short(shade.deepest)));
    }
    samples.querySelectorAll(".token").forEach(paint);
  }

  function status(i) {
    const words = ["dropped", "kept"];
    return words[report.kept[i]] + (report.kept[i] === report.trained[i] ? "" : ` (in the report: ${words[report.trained[i]]})`);
  }

  function showDetail(token) {
    const [i, t] = [Number(token.dataset.i), Number(token.dataset.t)];
    const number = report.samples.findIndex((sample) => i < sample.to);
    const { begin, from, to } = report.samples[number];
    const facts = [["", status(i)]];
    if (report.score) facts.push(["rank", report.rank[i] ? `${report.rank[i]} of ${to - from}` : "not eligible"]);
    for (const [name, label, values] of measures(report)) {
      const isLog = report.about.columns[name]?.log_probability;
      facts.push([label, short(values[i]) + (isLog ? ` (p ${Math.exp(values[i]).toPrecision(2)})` : "")]);
    }
    facts.push(["token", `${report.ids[report.tokens[t]]}, place ${t - begin}`]);
    detail.replaceChildren(
      element("bdi", { class: `piece ${report.kept[i] ? "kept" : "dropped"}` }, visible(report.texts[report.tokens[t]])),
      ...facts.map(([label, value]) => element("span", {}, element("span", { class: "quiet" }, label ? `${label} ` : ""), value)));
    samples.querySelector(".token.shown")?.classList.remove("shown");
    token.classList.add("shown");
  }

  function selectionChanged(changed) {
    changes.textContent = changed
      ? `${changed} of ${report.kept.length} tokens (${percent(changed, report.kept.length)}) change their status`
      : "as in the report";
    paintAll();
    const shown = samples.querySelector(".token.shown");
    if (shown) showDetail(shown);
    samples.querySelectorAll("details.sample").forEach((sample) => {
      showTitle(report, Number(sample.dataset.sample), sample.firstElementChild);
    });
    clearTimeout(later);
    later = setTimeout(() => { showOverview(report); updateList(); }, 150);
  }

  // A threshold moves in powers of ten, and its value is rounded to what one would write into a configuration.
  const written = (value) => (value !== 0 && (value >= 1000 || value < 0.001) ? value.toExponential() : String(value));
  const scales = {
    threshold: {
      position: Math.log10,
      value: (position) => Number((10 ** position).toPrecision(3)),
    },
  };
  const plain = { position: (value) => value, value: (position) => position };

  function wireSlider(slider) {
    const part = slider.dataset.part;
    const { position, value } = scales[part] ?? plain;
    const output = document.querySelector(`output[for="${slider.id}"]`);
    const reset = () => {
      report.values[part] = report.controls[part].value;
      slider.value = position(report.values[part]);
      output.textContent = written(report.values[part]); // a slider has steps, and may not stand where the report does
    };
    reset();
    slider.addEventListener("input", () => {
      const moved = value(Number(slider.value));
      output.textContent = written(moved);
      selectionChanged(reselect(report, part, moved));
    });
    return reset;
  }

  for (const input of document.querySelectorAll("input[name=view]")) {
    input.addEventListener("change", () => {
      document.body.dataset.view = input.value;
      paintAll();
    });
  }
  const resets = [...document.querySelectorAll("input[data-part]")].map(wireSlider);
  document.getElementById("reset")?.addEventListener("click", () => {
    resets.forEach((reset) => reset());
    rankAll(report);
    report.kept.set(report.trained);
    selectionChanged(0);
  });
  document.getElementById("open-all").addEventListener("click", (event) => {
    const open = event.target.getAttribute("aria-pressed") !== "true";
    event.target.setAttribute("aria-pressed", open);
    samples.querySelectorAll("details.sample").forEach((sample) => { sample.open = open; });
  });

  samples.append(...report.samples.map((_, number) => makeSample(report, number, paint)));
  if (samples.firstElementChild) samples.firstElementChild.open = true;
  for (const event of ["pointerover", "focusin", "click"]) {
    samples.addEventListener(event, ({ target }) => {
      const token = target.closest?.(".token");
      if (token) showDetail(token);
    });
  }
  samples.addEventListener("keydown", moveFocus);
  const updateList = makeList(report, samples);
  showOverview(report);
  window.report = report; // to look around in the browser's console
})();
