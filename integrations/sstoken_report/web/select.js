"use strict";
// The selection, as the core computes it: in float32, with the same roundings, so that the same tokens are kept.

const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const floatsOf = (text) => (text === undefined ? null : new Float32Array(bytesOf(text).buffer));

// The smallest k with k / n >= rho.
function keepCount(n, rho) {
  let k = Math.ceil(rho * n);
  if ((k - 1) / n >= rho) k -= 1;
  if (k / n < rho) k += 1;
  return k;
}

// (x - min) / (max - min) of values[from:to]; 0 where all are equal.
function minmax(values, from, to) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = from; i < to; i++) {
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
  }
  const span = Math.fround(high - low);
  const scaled = new Float32Array(to - from);
  if (span > 0) for (let i = from; i < to; i++) scaled[i - from] = Math.fround(values[i] - low) / span;
  return scaled;
}

// gamma * minmax(rel) + (1 - gamma) * attention, over the response tokens from..to of one sample.
function ssTokenScore(report, from, to, gamma) {
  const score = new Float32Array(to - from);
  if (gamma > 0) {
    const rel = minmax(report.rel, from, to);
    for (let i = 0; i < score.length; i++) score[i] += Math.fround(Math.fround(gamma) * rel[i]);
  }
  if (gamma < 1) {
    for (let i = 0; i < score.length; i++) {
      score[i] += Math.fround(Math.fround(1 - gamma) * report.attention[from + i]);
    }
  }
  return score;
}

// Everything the page knows; arrays over response tokens, sample after sample. `kept` and `rank` follow rho and gamma.
function readReport(data) {
  const response = bytesOf(data.response);
  const tokens = data.wide ? new Uint32Array(bytesOf(data.tokens).buffer) : new Uint16Array(bytesOf(data.tokens).buffer);
  const trained = bytesOf(data.kept);
  const report = {
    about: data.about, texts: data.texts, ids: data.ids, tokens, response, trained,
    kept: trained.slice(), rank: new Int32Array(trained.length), samples: [],
    rho: data.about.rho, gamma: data.about.gamma,
    log_prob: floatsOf(data.log_prob), history_log_prob: floatsOf(data.history_log_prob),
    attention: floatsOf(data.attention), prompt_gain: floatsOf(data.prompt_gain), entropy: floatsOf(data.entropy),
    score: floatsOf(data.score), rel: null,
  };
  if (report.history_log_prob) {
    report.rel = report.log_prob.map((value, i) => value - report.history_log_prob[i]);
  }
  let begin = 0;
  let from = 0;
  for (const length of data.lengths) {
    let to = from;
    for (let t = begin; t < begin + length; t++) to += response[t];
    report.samples.push({ begin, end: begin + length, from, to });
    begin += length;
    from = to;
  }
  if (data.about.reselect) rankAll(report);
  return report;
}

function rankAll(report) {
  if (report.about.reselect === "sstoken") {
    report.score = new Float32Array(report.kept.length);
    for (const { from, to } of report.samples) report.score.set(ssTokenScore(report, from, to, report.gamma), from);
  }
  for (const { from, to } of report.samples) {
    const order = Array.from({ length: to - from }, (_, i) => from + i);
    order.sort((a, b) => report.score[b] - report.score[a] || a - b); // the earlier token wins a tie
    order.forEach((token, i) => { report.rank[token] = i + 1; });
  }
}

// Selects again by other values; returns how many tokens meet another fate than in the report.
function reselect(report, rho, gamma) {
  report.rho = rho;
  if (report.gamma !== gamma) {
    report.gamma = gamma;
    rankAll(report);
  }
  let changed = 0;
  for (const { from, to } of report.samples) {
    const k = keepCount(to - from, rho);
    for (let i = from; i < to; i++) {
      report.kept[i] = report.rank[i] <= k ? 1 : 0;
      changed += report.kept[i] !== report.trained[i];
    }
  }
  return changed;
}
