// Wires the controls to the samples.

(() => {
  const report = readReport(JSON.parse(document.getElementById("data").textContent));
  const samples = document.getElementById("samples");
  const [detail, changes] = ["detail", "changes"].map((id) => document.getElementById(id));
  const scale = {}; // what counts as full colour, by view
  let overview; // the timer of its next drawing, which waits until a slider rests

  function view() {
    return document.body.dataset.view;
  }

  function fullColour(name) {
    const sizes = Float32Array.from(report[name], Math.abs).sort();
    return sizes[Math.floor(0.98 * (sizes.length - 1))] || 1;
  }

  function paint(token) {
    const i = Number(token.dataset.i);
    token.classList.toggle("kept", report.kept[i] === 1);
    token.classList.toggle("dropped", report.kept[i] === 0);
    if (view() === "kept") return;
    const value = report[view()][i];
    token.classList.toggle("negative", value < 0);
    token.style.setProperty("--v", Math.min(1, Math.abs(value) / scale[view()]).toFixed(3));
  }

  function paintAll() {
    if (view() !== "kept") scale[view()] = fullColour(view());
    document.querySelectorAll(".token").forEach(paint);
  }

  function showDetail(token) {
    const [i, t] = [Number(token.dataset.i), Number(token.dataset.t)];
    const number = report.samples.findIndex((sample) => i < sample.to);
    const { begin, from, to } = report.samples[number];
    const probability = (value) => `${short(value)} (p ${Math.exp(value).toPrecision(2)})`;
    const facts = [
      ["", report.kept[i] ? "kept" : "dropped"],
      ["rank", report.about.reselect ? `${report.rank[i]} of ${to - from}` : null],
      ["score", report.score && short(report.score[i])],
      ["REL", report.rel && short(report.rel[i])],
      ["attention", report.attention && short(report.attention[i])],
      ["gain from the prompt", report.prompt_gain && short(report.prompt_gain[i])],
      ["log-prob now", probability(report.log_prob[i])],
      ["log-prob history", report.history_log_prob && probability(report.history_log_prob[i])],
      ["entropy", short(report.entropy[i])],
      ["token", `${report.ids[report.tokens[t]]}, place ${t - begin}`],
    ].filter(([, value]) => value !== null);
    detail.replaceChildren(
      element("bdi", { class: `piece ${report.kept[i] ? "kept" : "dropped"}` }, visible(report.texts[report.tokens[t]])),
      ...facts.map(([label, value]) => element("span", {}, element("span", { class: "quiet" }, label ? `${label} ` : ""), value)));
    document.querySelector(".token.shown")?.classList.remove("shown");
    token.classList.add("shown");
  }

  function selectionChanged(rho, gamma) {
    const changed = reselect(report, rho, gamma);
    changes.textContent = changed
      ? `${changed} of ${report.kept.length} tokens (${percent(changed, report.kept.length)}) change their fate`
      : "as in the report";
    paintAll();
    document.querySelectorAll("details.sample").forEach((sample) => {
      showTitle(report, Number(sample.dataset.sample), sample.firstElementChild);
    });
    clearTimeout(overview);
    overview = setTimeout(() => showOverview(report), 150);
  }

  function wireSlider(name, isUsable) {
    const slider = document.getElementById(name);
    const shown = document.querySelector(`output[for=${name}]`);
    slider.disabled = !isUsable;
    const reset = () => {
      if (report.about[name] !== null) slider.value = report.about[name];
      shown.textContent = report.about[name] ?? "–"; // a slider has steps, and may not stand where the report does
    };
    reset();
    slider.addEventListener("input", () => {
      shown.textContent = slider.value;
      selectionChanged(...["rho", "gamma"].map((each) => (each === name ? Number(slider.value) : report[each])));
    });
    return reset;
  }

  for (const input of document.querySelectorAll("input[name=view]")) {
    input.disabled = input.value !== "kept" && !report[input.value];
    input.addEventListener("change", () => {
      document.body.dataset.view = input.value;
      paintAll();
    });
  }
  const kind = report.about.reselect;
  const resets = [
    wireSlider("rho", kind !== null),
    wireSlider("gamma", kind === "sstoken" && report.rel !== null && report.attention !== null),
  ];
  document.getElementById("reset").addEventListener("click", () => {
    resets.forEach((reset) => reset());
    selectionChanged(report.about.rho, report.about.gamma);
  });
  document.getElementById("open-all").addEventListener("click", (event) => {
    const open = event.target.getAttribute("aria-pressed") !== "true";
    event.target.setAttribute("aria-pressed", open);
    document.querySelectorAll("details.sample").forEach((sample) => { sample.open = open; });
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
  showOverview(report);
  window.report = report; // to look around in the browser's console
})();
