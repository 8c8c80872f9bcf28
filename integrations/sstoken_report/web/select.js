"use strict";
// The selection, as the core computes it: in float32, with the same roundings, so that the same tokens are kept. What
// is computed from which columns, the report says itself (`about.controls`): no method is known here.

const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const floatsOf = (text) => (text === undefined ? null : new Float32Array(bytesOf(text).buffer));

// The smallest k with k / n >= share.
function keepCount(n, share) {
  let k = Math.ceil(share * n);
  if ((k - 1) / n >= share) k -= 1;
  if (k / n < share) k += 1;
  return k;
}

// (x - min) / (max - min) of the eligible among values[from:to]; 0 where all are equal, and for the others.
function minmax(values, eligible, from, to) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = from; i < to; i++) {
    if (!eligible[i]) continue;
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
  }
  const span = Math.fround(high - low);
  const scaled = new Float32Array(to - from);
  if (span > 0) {
    for (let i = from; i < to; i++) if (eligible[i]) scaled[i - from] = Math.fround(values[i] - low) / span;
  }
  return scaled;
}

// share * minmax(scaled) + (1 - share) * plain, over the response tokens from..to of one sample; 0 if not eligible.
function blended(scaled, plain, share, eligible, from, to) {
  const score = new Float32Array(to - from);
  if (share > 0) {
    const unit = minmax(scaled, eligible, from, to);
    for (let i = 0; i < score.length; i++) score[i] += Math.fround(Math.fround(share) * unit[i]);
  }
  if (share < 1) {
    for (let i = 0; i < score.length; i++) score[i] += Math.fround(Math.fround(1 - share) * plain[from + i]);
  }
  return score.map((value, i) => (eligible[from + i] ? value : 0));
}

// Everything the page knows; arrays over response tokens, sample after sample. `kept`, `eligible`, `score` and `rank`
// follow `values`, the options that are moved, by the part of the controls that they belong to.
function readReport(data) {
  const response = bytesOf(data.response);
  const tokens = data.wide ? new Uint32Array(bytesOf(data.tokens).buffer) : new Uint16Array(bytesOf(data.tokens).buffer);
  const trained = bytesOf(data.kept);
  const controls = data.about.controls ?? {};
  const report = {
    about: data.about, controls, texts: data.texts, ids: data.ids, rows: data.rows, tokens, response, trained,
    kept: trained.slice(), rank: new Int32Array(trained.length), samples: [],
    columns: Object.fromEntries(Object.keys(data.about.columns).map((name) => [name, floatsOf(data.columns[name])])),
    eligible: data.eligible ? bytesOf(data.eligible) : new Uint8Array(trained.length).fill(1),
    score: floatsOf(data.score), weight: floatsOf(data.weight), values: {},
    place: new Uint32Array(trained.length), // of each response token among all tokens
  };
  for (const part of Object.keys(controls)) report.values[part] = controls[part].value;
  let begin = 0;
  let from = 0;
  for (const length of data.lengths) {
    let to = from;
    for (let t = begin; t < begin + length; t++) if (response[t]) report.place[to++] = t;
    report.samples.push({ begin, end: begin + length, from, to });
    begin += length;
    from = to;
  }
  rankAll(report);
  return report;
}

function rankAll(report) {
  const { columns, eligible, controls: { threshold, blend }, values } = report;
  if (threshold) {
    const bar = Math.fround(Math.log(values.threshold));
    columns[threshold.column].forEach((value, i) => { eligible[i] = value > bar ? 1 : 0; });
  }
  if (blend) {
    report.score ??= new Float32Array(eligible.length);
    for (const { from, to } of report.samples) {
      report.score.set(blended(columns[blend.scaled], columns[blend.plain], values.blend, eligible, from, to), from);
    }
  }
  if (!report.score) return;
  const ordered = report.score.map((value, i) => (eligible[i] ? value : -Infinity));
  for (const { from, to } of report.samples) {
    const order = Array.from({ length: to - from }, (_, i) => from + i);
    order.sort((a, b) => (ordered[b] > ordered[a]) - (ordered[b] < ordered[a])
      || Number.isNaN(ordered[b]) - Number.isNaN(ordered[a]) || a - b); // the earlier token wins a tie
    order.forEach((token, i) => { report.rank[token] = eligible[token] ? i + 1 : 0; });
  }
}

// Selects again with one option moved; returns how many tokens are kept or dropped otherwise than in the report.
function reselect(report, part, value) {
  report.values[part] = value;
  if (part !== "top") rankAll(report);
  const ofData = report.columns.data_weight; // what the data drop takes a rank, and does not train
  for (const { from, to } of report.samples) {
    const k = report.controls.top ? keepCount(to - from, report.values.top) : Infinity;
    for (let i = from; i < to; i++) {
      report.kept[i] = report.eligible[i] && !(report.rank[i] > k) && ofData?.[i] !== 0 ? 1 : 0;
    }
  }
  return report.kept.reduce((sum, kept, i) => sum + (kept !== report.trained[i]), 0);
}
