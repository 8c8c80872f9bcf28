// Kept and dropped tokens compared: numbers, kinds of tokens, distributions, favourites.

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
function short(value) {
  if (Number.isNaN(value)) return "–";
  return (Math.abs(value) < 100 ? value.toFixed(3) : value.toFixed(0)).replace("-", "−");
}
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
// White space and what is no text are shown by name.
const visible = (text) => (text === "" ? "(part of a character)" : text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "␣"));

// What has a number for every response token: [name, label, values]. What is not eligible has no score.
function measures(report) {
  const found = Object.entries(report.about.columns).map(([name, { label }]) => [name, label, report.columns[name]]);
  if (report.score) found.unshift(["score", "score", report.score.map((value, i) => (report.eligible[i] ? value : NaN))]);
  if (report.weight) found.push(["weight", "weight", report.weight]);
  return found;
}

function split(report, values) {
  const groups = [[], []];
  for (let i = 0; i < values.length; i++) if (Number.isFinite(values[i])) groups[report.kept[i]].push(values[i]);
  return { kept: Float32Array.from(groups[1]).sort(), dropped: Float32Array.from(groups[0]).sort() };
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function fillTable(into, head, rows) {
  const row = (cells, kind) => element("tr", {}, ...cells.map((text, i) =>
    (i === 0 || kind === "th" ? element("th", { scope: kind === "th" ? "col" : "row" }, text) : element("td", {}, text))));
  into.replaceChildren(row(head, "th"), ...rows.map((cells) => row(cells, "td")));
}

function showNumbers(report) {
  const count = report.kept.reduce((sum, kept) => sum + kept, 0);
  const all = report.kept.length;
  const rows = [["Response tokens", `${count} (${percent(count, all)})`, `${all - count} (${percent(all - count, all)})`]];
  for (const [, label, values] of measures(report)) {
    const { kept, dropped } = split(report, values);
    rows.push([`${capital(label)}, mean`, ...[kept, dropped].map((group) => (group.length ? short(mean(group)) : "–"))]);
  }
  fillTable(document.getElementById("numbers"), ["Number", "kept", "dropped"], rows);
}

// Kinds of tokens, by their text: the first that fits.
const KINDS = [
  ["white space", (text) => text !== "" && text.trim() === ""],
  ["numbers", (text) => /\p{N}/u.test(text) && !/\p{L}/u.test(text)],
  ["words", (text) => /\p{L}/u.test(text) && !/[_{}[\]()<>=\\|&^~`$#@*/+%;]/.test(text)],
  ["code and symbols", (text) => /[_{}[\]()<>=\\|&^~`$#@*/+%;]/.test(text)],
  ["punctuation", (text) => /^[\p{P}\s]+$/u.test(text)],
  ["other", () => true],
];
const LAST = "ends of answers";

function kindsOf(report) {
  const kinds = report.texts.map((text) => KINDS.find(([, fits]) => fits(text))[0]);
  const found = new Map([...KINDS.map(([name]) => name), LAST].map((name) => [name, { kept: 0, seen: 0 }]));
  const { place, response, tokens } = report;
  for (const { from, to, end } of report.samples) {
    for (let i = from; i < to; i++) {
      const after = place[i] + 1;
      const count = found.get(after === end || !response[after] ? LAST : kinds[tokens[place[i]]]);
      count.seen += 1;
      count.kept += report.kept[i];
    }
  }
  return [...found].filter(([, { seen }]) => seen);
}

function showKinds(report) {
  fillTable(document.getElementById("kinds"), ["Kind of token", "tokens", "kept"],
    kindsOf(report).map(([name, { kept, seen }]) => [capital(name), seen, percent(kept, seen)]));
}

// Shares of each group in equal bins, between the 0.5th and the 99.5th percentile of all.
function histogram(report, values) {
  const all = Float32Array.from(values).filter(Number.isFinite).sort();
  const low = all[Math.floor(0.005 * (all.length - 1))];
  const high = all[Math.ceil(0.995 * (all.length - 1))];
  const { kept, dropped } = split(report, values);
  const binned = (group) => binCounts(group, low, high, BINS).map((count) => count / (group.length || 1));
  return { low, high, kept: binned(kept), dropped: binned(dropped), keptMean: mean(kept), droppedMean: mean(dropped) };
}

function binCounts(values, low, high, bins) {
  const counts = new Array(bins).fill(0);
  for (const value of values) {
    const bin = high > low ? Math.floor((bins * (value - low)) / (high - low)) : 0;
    counts[Math.min(bins - 1, Math.max(0, bin))] += 1;
  }
  return counts;
}

const outline = (shares, width, height, top) => shares.map((share, bin) => {
  const y = height - (share / top) * (height - 2);
  return `L${(width * bin) / shares.length},${y}L${(width * (bin + 1)) / shares.length},${y}`;
}).join("");

function showHistogram(report, [, name, values]) {
  const { low, high, kept, dropped, keptMean, droppedMean } = histogram(report, values);
  const [width, height] = [320, 110];
  const top = Math.max(...kept, ...dropped) || 1;
  const means = [["kept", keptMean], ["dropped", droppedMean]].filter(([, value]) => !Number.isNaN(value));
  const label = `${name}: ${means.map(([group, value]) => `mean of the ${group} ${short(value)}`).join(", ")}`;
  const chart = drawing("svg", { viewBox: `0 0 ${width} ${height + 16}`, role: "img", "aria-label": label },
    drawing("path", { d: `M0,${height}${outline(kept, width, height, top)}L${width},${height}Z`, class: "bars kept" }),
    drawing("path", { d: `M0,${height}${outline(dropped, width, height, top)}L${width},${height}`, class: "bars dropped" }),
    drawing("line", { x1: 0, y1: height, x2: width, y2: height, class: "axis" }),
    drawing("text", { x: 0, y: height + 13 }, short(low)),
    drawing("text", { x: width, y: height + 13, "text-anchor": "end" }, short(high)));
  return element("figure", {}, element("figcaption", {}, capital(name)), chart);
}

// Above a slider, and as wide: what it cuts. For a threshold, how many tokens have a value there; for a share of the
// best, the mean score by rank.
function showCut(report, part) {
  const into = document.querySelector(`[data-cut=${part}]`);
  const { least, most, column } = report.controls[part];
  let shares;
  if (part === "threshold") {
    const powers = report.columns[column].filter(Number.isFinite).map((value) => value / Math.LN10);
    shares = binCounts(powers, least, most, BINS).map(Math.sqrt); // so that few are seen beside many
  } else {
    const sums = new Array(BINS).fill(0);
    const counts = new Array(BINS).fill(0);
    const { eligible, rank, score } = report;
    const low = score.reduce((found, value, i) => (eligible[i] ? Math.min(found, value) : found), Infinity);
    for (const { from, to } of report.samples) {
      for (let i = from; i < to; i++) {
        if (!rank[i] || !Number.isFinite(score[i])) continue;
        const bin = Math.min(BINS - 1, Math.floor((BINS * (rank[i] - 0.5)) / (to - from)));
        sums[bin] += score[i] - low;
        counts[bin] += 1;
      }
    }
    shares = sums.map((sum, bin) => sum / (counts[bin] || 1));
  }
  const top = Math.max(...shares) || 1;
  into.replaceChildren(drawing("path", { d: `M0,24${outline(shares, 128, 24, top)}L128,24Z` }));
}

// Most often kept (or dropped) beyond what the keep rate gives a token of that frequency.
function favourites(report) {
  const counts = new Map();
  report.place.forEach((t, i) => {
    const token = report.tokens[t];
    const count = counts.get(token) ?? { kept: 0, seen: 0 };
    count.kept += report.kept[i];
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
  showNumbers(report);
  showKinds(report);
  const known = measures(report).filter(([, , values]) => values.some(Number.isFinite));
  document.getElementById("charts").replaceChildren(...known.map((each) => showHistogram(report, each)));
  for (const part of ["top", "threshold"]) if (document.querySelector(`[data-cut=${part}]`)) showCut(report, part);
  const found = favourites(report);
  showFavourites(report, found.kept, document.getElementById("favourites-kept"), "kept");
  showFavourites(report, found.dropped, document.getElementById("favourites-dropped"), "dropped");
}
