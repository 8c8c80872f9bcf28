// Kept and dropped tokens compared: numbers, distributions, favourites.

const SIGNALS = {
  score: "Score", rel: "REL", attention: "Attention to the prompt", prompt_gain: "Gain from the prompt",
  log_prob: "Log-probability now", entropy: "Entropy",
};
const BINS = 32;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawing(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");
const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(3)).replace("-", "−");
// White space and what is no text are shown by name.
const visible = (text) => (text === "" ? "(part of a character)" : text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "␣"));

function split(report, values) {
  const groups = [[], []];
  for (let i = 0; i < values.length; i++) groups[report.kept[i]].push(values[i]);
  return { kept: Float32Array.from(groups[1]).sort(), dropped: Float32Array.from(groups[0]).sort() };
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function showNumbers(report, into) {
  const head = element("tr", {}, ...["", "kept", "dropped"].map((text) => element("th", { scope: "col" }, text)));
  const count = report.kept.reduce((sum, kept) => sum + kept, 0);
  const rows = [["Response tokens", `${count} (${percent(count, report.kept.length)})`,
    `${report.kept.length - count} (${percent(report.kept.length - count, report.kept.length)})`]];
  for (const [name, label] of Object.entries(SIGNALS)) {
    if (!report[name]) continue;
    const { kept, dropped } = split(report, report[name]);
    rows.push([`${label}, mean`, ...[kept, dropped].map((values) => (values.length ? short(mean(values)) : "–"))]);
  }
  into.replaceChildren(head, ...rows.map(([label, ...values]) =>
    element("tr", {}, element("th", { scope: "row" }, label), ...values.map((text) => element("td", {}, text)))));
}

// Shares of each group in equal bins, between the 0.5th and the 99.5th percentile of all.
function histogram(report, name) {
  const values = report[name];
  const all = Float32Array.from(values).sort();
  const low = all[Math.floor(0.005 * (all.length - 1))];
  const high = all[Math.ceil(0.995 * (all.length - 1))];
  const { kept, dropped } = split(report, values);
  const binned = (group) => {
    const counts = new Array(BINS).fill(0);
    for (const value of group) {
      const place = high > low ? Math.floor((BINS * (value - low)) / (high - low)) : 0;
      counts[Math.min(BINS - 1, Math.max(0, place))] += 1 / group.length;
    }
    return counts;
  };
  return { low, high, kept: binned(kept), dropped: binned(dropped), keptMean: mean(kept), droppedMean: mean(dropped) };
}

function showHistogram(report, name) {
  const { low, high, kept, dropped, keptMean, droppedMean } = histogram(report, name);
  const [width, height] = [320, 110];
  const top = Math.max(...kept, ...dropped) || 1;
  const x = (bin) => (width * bin) / BINS;
  const y = (share) => height - (share / top) * (height - 6);
  const steps = (counts) => counts.map((share, bin) => `L${x(bin)},${y(share)}L${x(bin + 1)},${y(share)}`).join("");
  const label = `${SIGNALS[name]}: mean of the kept ${short(keptMean)}, of the dropped ${short(droppedMean)}`;
  const chart = drawing("svg", { viewBox: `0 0 ${width} ${height + 16}`, role: "img", "aria-label": label },
    drawing("path", { d: `M0,${height}${steps(kept)}L${width},${height}Z`, class: "bars kept" }),
    drawing("path", { d: `M0,${height}${steps(dropped)}L${width},${height}`, class: "bars dropped" }),
    drawing("line", { x1: 0, y1: height, x2: width, y2: height, class: "axis" }),
    drawing("text", { x: 0, y: height + 13 }, short(low)),
    drawing("text", { x: width, y: height + 13, "text-anchor": "end" }, short(high)));
  return element("figure", {}, element("figcaption", {}, SIGNALS[name]), chart);
}

// Most often kept (or dropped) beyond what the keep rate gives a token of that frequency.
function favourites(report) {
  const counts = new Map();
  let response = -1;
  report.tokens.forEach((token, t) => {
    if (!report.response[t]) return;
    response += 1;
    const count = counts.get(token) ?? { kept: 0, seen: 0 };
    count.kept += report.kept[response];
    count.seen += 1;
    counts.set(token, count);
  });
  const rate = mean(report.kept);
  const all = [...counts].map(([token, count]) => ({ token, ...count, beyond: count.kept - rate * count.seen }));
  return {
    kept: all.filter((row) => row.beyond > 0).sort((a, b) => b.beyond - a.beyond).slice(0, 15),
    dropped: all.filter((row) => row.beyond < 0).sort((a, b) => a.beyond - b.beyond).slice(0, 15),
  };
}

function showFavourites(report, rows, into, which) {
  into.replaceChildren(...rows.map(({ token, kept, seen }) => {
    const times = which === "kept" ? kept : seen - kept;
    return element("li", {}, element("bdi", { class: `piece ${which}` }, visible(report.texts[token])),
      element("span", { class: "quiet" }, ` ${times} of ${seen}`));
  }));
}

function showOverview(report) {
  showNumbers(report, document.getElementById("numbers"));
  document.getElementById("charts").replaceChildren(
    ...Object.keys(SIGNALS).filter((name) => report[name]).map((name) => showHistogram(report, name)));
  const found = favourites(report);
  showFavourites(report, found.kept, document.getElementById("favourites-kept"), "kept");
  showFavourites(report, found.dropped, document.getElementById("favourites-dropped"), "dropped");
}
