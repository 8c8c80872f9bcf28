// Which samples are listed, in which order: search, sort, filter, and links to one.

const KEPT_OF = { some: (kept, all) => kept < all, none: (kept) => kept === 0 };

// What samples can be sorted by: name, and a number for each sample.
function orders(report) {
  const of = (values) => report.samples.map((sample) => total(values, sample));
  const lengths = report.samples.map(({ from, to }) => to - from);
  const found = new Map([
    ["order of the data", () => report.samples.map((_, number) => number)],
    ["share kept", () => of(report.kept).map((sum, number) => sum / lengths[number])],
    ["response tokens", () => lengths],
    ["tokens that change", () => report.samples.map(({ from, to }) => {
      let changed = 0;
      for (let i = from; i < to; i++) changed += report.kept[i] !== report.trained[i];
      return changed;
    })],
  ]);
  for (const [name, label, values] of measures(report)) {
    found.set(`${label}, mean`, () => of(values).map((sum, number) => sum / lengths[number]));
    if (report.about.columns[name]?.per_document) found.set(`${label}, sum`, () => of(values));
  }
  return found;
}

function sampleText(report, { begin, end }) {
  let text = "";
  for (let t = begin; t < end; t++) text += report.texts[report.tokens[t]];
  return text.toLowerCase();
}

// Marks where the text that is searched for stands in what is drawn, whatever tokens it is cut into.
function highlight(query) {
  if (!window.CSS?.highlights) return;
  CSS.highlights.delete("found");
  if (!query) return;
  const ranges = [];
  for (const into of document.querySelectorAll("details.sample[open]:not([hidden]) .text")) {
    const walker = document.createTreeWalker(into, NodeFilter.SHOW_TEXT);
    const nodes = [];
    let text = "";
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      nodes.push([text.length, node]);
      text += node.data.replace(/⏎(?=\n)/g, "\u0000").toLowerCase();
    }
    const at = (index) => {
      let [low, high] = [0, nodes.length - 1];
      while (low < high) {
        const middle = Math.ceil((low + high) / 2);
        if (nodes[middle][0] <= index) low = middle; else high = middle - 1;
      }
      return [nodes[low][1], Math.min(index - nodes[low][0], nodes[low][1].length)];
    };
    for (let from = text.indexOf(query); from >= 0 && ranges.length < 5000; from = text.indexOf(query, from + query.length)) {
      const range = document.createRange();
      const [last, offset] = at(from + query.length - 1);
      range.setStart(...at(from));
      range.setEnd(last, Math.min(offset + 1, last.length));
      ranges.push(range);
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

function makeList(report, into) {
  const [search, sort, direction, show, found] = ["search", "sort", "direction", "show", "found"].map((id) => document.getElementById(id));
  const by = orders(report);
  const texts = []; // of each sample, made when they are first searched
  sort.replaceChildren(...[...by.keys()].map((name) => element("option", { value: name }, name)));

  function update() {
    const query = search.value.toLowerCase();
    const keys = by.get(sort.value)();
    const sign = direction.getAttribute("aria-pressed") === "true" ? -1 : 1;
    const details = new Map([...into.children].map((each) => [Number(each.dataset.sample), each]));
    const order = [...keys.keys()].sort((a, b) => sign * (keys[a] - keys[b]) || a - b);
    let shown = 0;
    for (const number of order) {
      const sample = report.samples[number];
      const kept = total(report.kept, sample);
      let fits = KEPT_OF[show.value]?.(kept, sample.to - sample.from) ?? true;
      if (show.value === "changed") fits = report.kept.subarray(sample.from, sample.to).some((one, i) => one !== report.trained[sample.from + i]);
      if (fits && query) fits = (texts[number] ??= sampleText(report, sample)).includes(query);
      details.get(number).hidden = !fits;
      shown += fits;
    }
    const now = [...into.children].map((each) => Number(each.dataset.sample));
    if (order.some((number, i) => number !== now[i])) into.append(...order.map((number) => details.get(number)));
    found.textContent = shown === order.length ? `${shown} samples` : `${shown} of ${order.length} samples`;
    highlight(query);
  }

  function openLinked() {
    const sample = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!sample?.classList.contains("sample")) return;
    sample.hidden = false;
    sample.open = true;
    sample.scrollIntoView();
  }

  let waiting;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(update, 100); });
  for (const input of [sort, show]) input.addEventListener("change", update);
  direction.addEventListener("click", () => {
    direction.setAttribute("aria-pressed", direction.getAttribute("aria-pressed") !== "true");
    update();
  });
  // A sample that is opened is drawn first.
  into.addEventListener("toggle", () => setTimeout(() => highlight(search.value.toLowerCase())), true);
  window.addEventListener("hashchange", openLinked);
  update();
  openLinked();
  return update;
}
