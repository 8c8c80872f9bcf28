// The samples, drawn when they are opened, and long ones piece by piece.

const CHUNK = 1500; // response tokens drawn at a time
const PROMPT = { whole: 220, head: 60, tail: 120 }; // longer prompts are shown by their two ends

// Between joiners, so that Arabic letters on both sides keep their shapes.
const partOfCharacter = "\u200d·\u200d";

// Sum over the response tokens of a sample.
const total = (values, { from, to }) => values.subarray(from, to).reduce((sum, one) => sum + one, 0);

function sampleTitle(report, number) {
  const sample = report.samples[number];
  const { begin, end, from, to } = sample;
  let words = "";
  for (let t = begin; t < end && words.length < 90; t++) if (report.response[t]) words += report.texts[report.tokens[t]];
  const counts = [`${total(report.kept, sample)} of ${to - from} kept`, `${end - begin} tokens`];
  for (const [name, { label, per_document: summed }] of Object.entries(report.about.columns)) {
    if (summed) counts.push(`${label} ${short(total(report.columns[name], sample))} in sum`);
  }
  if (report.rows[number] >= 0) counts.push(`row ${report.rows[number]}`);
  return [`Sample ${number + 1}`, counts.join(", "), words.replace(/\s+/g, " ").trim()];
}

function showTitle(report, number, summary) {
  const [name, counts, words] = sampleTitle(report, number);
  summary.replaceChildren(element("b", {}, name), element("span", { class: "quiet" }, ` ${counts} `),
    element("bdi", { class: "words" }, words));
}

// A stretch of prompt, from token `begin` to `end`: quiet text, its middle folded if it is long.
function promptRun(report, begin, end) {
  const text = (from, to) => {
    let joined = "";
    for (let t = from; t < to; t++) joined += report.texts[report.tokens[t]];
    return joined;
  };
  if (end - begin <= PROMPT.whole) return [element("span", { class: "prompt" }, text(begin, end))];
  const middle = [begin + PROMPT.head, end - PROMPT.tail];
  const button = element("button", { type: "button", class: "more" }, `… ${middle[1] - middle[0]} more prompt tokens …`);
  button.addEventListener("click", () => button.replaceWith(element("span", { class: "prompt" }, text(...middle))));
  return [element("span", { class: "prompt" }, text(begin, middle[0])), button,
    element("span", { class: "prompt" }, text(middle[1], end))];
}

// White space by a name that can be read out, also of the rarer kinds, such as U+2028.
const named = (text) => visible(text).replace(/\s/g, (each) => `U+${each.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);

function responseToken(report, t, index) {
  const text = report.texts[report.tokens[t]];
  const token = element("span", { class: "token", role: "button", tabindex: "-1", "data-i": index, "data-t": t },
    text === "" ? partOfCharacter : text.replace(/\n/g, "⏎\n"));
  if (text === "") token.classList.add("partial");
  else if (text.trim() === "") token.setAttribute("aria-label", named(text));
  return token;
}

// Draws the tokens of a sample from `t` on; a button at the end draws more.
function drawTokens(report, number, into, t, index, paint) {
  const { end } = report.samples[number];
  const parts = [];
  let drawn = 0;
  while (t < end && drawn < CHUNK) {
    if (report.response[t]) {
      const token = responseToken(report, t, index);
      paint(token);
      parts.push(token);
      index += 1;
      drawn += 1;
      t += 1;
    } else {
      const begin = t;
      while (t < end && !report.response[t]) t += 1;
      parts.push(...promptRun(report, begin, t));
    }
  }
  into.append(...parts);
  if (t >= end) return;
  const button = element("button", { type: "button", class: "more" }, `Show more of the ${end - t} tokens that are left`);
  button.addEventListener("click", () => {
    button.remove();
    drawTokens(report, number, into, t, index, paint);
    into.querySelector(`[data-i="${index}"]`)?.focus();
  });
  into.append(button);
}

function makeSample(report, number, paint) {
  const summary = element("summary");
  showTitle(report, number, summary);
  const text = element("div", { class: "text", dir: "auto", role: "group", "aria-label": `Tokens of sample ${number + 1}` });
  const details = element("details",
    { class: "sample", id: `sample-${number + 1}`, "data-sample": number }, summary, text, element("p", {},
      element("a", { href: `#sample-${number + 1}`, class: "anchor" }, `Link to sample ${number + 1}`)));
  details.addEventListener("toggle", () => {
    if (!details.open || text.hasChildNodes()) return;
    const { begin, from } = report.samples[number];
    drawTokens(report, number, text, begin, from, paint);
    text.querySelector(".token")?.setAttribute("tabindex", "0");
  });
  return details;
}

// Arrow keys go from token to token; only one of a sample is in the tab order.
function moveFocus(event) {
  const from = event.target.closest(".token");
  if (!from) return;
  const tokens = [...from.parentElement.querySelectorAll(".token")];
  const here = tokens.indexOf(from);
  const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tokens.length - 1 }[event.key];
  if (to === undefined || !tokens[to]) return;
  event.preventDefault();
  from.setAttribute("tabindex", "-1");
  tokens[to].setAttribute("tabindex", "0");
  tokens[to].focus();
}
