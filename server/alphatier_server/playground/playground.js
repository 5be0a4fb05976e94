// The playground: one question to several tiers at once, by the gateway's own API. What comes from a model is only ever
// put into the page as text.

const $ = (id) => document.getElementById(id);
const root = new URL(".", document.baseURI);
const state = { cards: [], family: null, columns: [], answers: [], key: sessionStorage.getItem("key") ?? "" };

// --- the gateway -----------------------------------------------------------------------------------------------------

const headers = () => ({ "content-type": "application/json", ...(state.key && { authorization: `Bearer ${state.key}` }) });

async function load() {
  notice("");
  let answer;
  try {
    answer = await fetch(new URL("v1/models", root), { headers: headers() });
  } catch {
    notice("The gateway cannot be reached.");
    return;
  }
  if (answer.status === 401) {
    $("key-box").open = true;
    $("key").focus();
    notice(state.key ? "The gateway does not know this key." : "This gateway wants an API key.");
    return;
  }
  if (!answer.ok) {
    notice(await refusal(answer));
    return;
  }
  state.cards = (await answer.json()).data;
  const families = [...new Set(state.cards.map((card) => card.alphatier.family))];
  $("family").replaceChildren(...families.map((name) => make("option", name)));
  $("family-choice").hidden = families.length < 2;
  if (!families.length) notice("The gateway serves no family that this key may use.");
  else choose(families[0]);
}

async function refusal(answer) {
  try {
    return `${answer.status}: ${(await answer.json()).error.message}`;
  } catch {
    return `${answer.status}: the gateway said no more.`;
  }
}

/** Server-sent events of a body, as their data. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
  }
}

// --- the family ------------------------------------------------------------------------------------------------------

const tierOf = (card) => (card.id.includes(":") ? card.id.slice(card.id.indexOf(":") + 1) : null);
const measured = (card) => Boolean(card.alphatier.accuracy);
const hundredths = (share) => (100 * share).toFixed(1);
const percent = (share) => `${hundredths(share)} %`;
const accuracy = (one) => `${percent(one.mean)} (${hundredths(one.low)} to ${hundredths(one.high)})`;
const count = (number) => (number < 100 ? number.toFixed(1) : number.toFixed(0));

const cards = () => state.cards.filter((card) => card.alphatier.family === state.family && tierOf(card) !== null);
const tiers = () => cards().filter((card) => tierOf(card) !== "auto");
const cardOf = (tier) => cards().find((card) => tierOf(card) === tier);
/** What savings are told against: the tier with the most measured tokens. */
const reference = () =>
  tiers().filter(measured).reduce((most, card) => (most && most.alphatier.tokens.mean >= card.alphatier.tokens.mean ? most : card), null);

function choose(family) {
  state.family = family;
  const own = state.cards.find((card) => card.id === family);
  const known = tiers().filter(measured);
  const shortest = known.reduce((least, card) => (least && least.alphatier.tokens.mean <= card.alphatier.tokens.mean ? least : card), null);
  const shown = new Set(["auto", own && own.alphatier.tier, tierOf(reference() ?? tiers()[0]), shortest && tierOf(shortest)]);
  const boxes = cards().map((card) => {
    const box = make("input");
    Object.assign(box, { type: "checkbox", value: tierOf(card), checked: shown.has(tierOf(card)) });
    const label = make("label");
    label.append(box, ` ${tierOf(card)}`);
    return label;
  });
  $("tiers").replaceChildren($("tiers").querySelector("legend"), ...boxes);
  state.answers = [];
  columns();
  describe();
  draw();
}

function columns() {
  for (const column of state.columns) column.stop();
  const chosen = [...$("tiers").querySelectorAll("input:checked")].map((box) => box.value);
  const kept = new Map(state.columns.filter((column) => column.family === state.family).map((column) => [column.tier, column]));
  state.columns = chosen.map((tier) => kept.get(tier) ?? new Column(state.family, tier));
  $("columns").replaceChildren(...state.columns.map((column) => column.element));
}

function describe() {
  const own = state.cards.find((card) => card.id === state.family);
  $("family-title").textContent = `Family ${state.family}`;
  const rows = tiers().map(({ alphatier: one }) => [
    one.tier + (own && own.alphatier.tier === one.tier ? " (default)" : ""),
    one.alpha ?? "–",
    one.accuracy ? accuracy(one.accuracy) : one.figures,
    one.tokens ? `${count(one.tokens.mean)} (${count(one.tokens.low)} to ${count(one.tokens.high)})` : "–",
    one.efforts.join(", ") || "–",
    one.dataset ?? "–",
  ]);
  table($("family-table"), ["tier", "alpha", "accuracy (95 %)", "tokens (95 %)", "efforts", "measured on"], rows);
  const alphas = own && own.alphatier.alphas;
  $("family-notes").textContent = alphas
    ? `Any alpha from 0 to ${alphas.largest} too, in steps of ${alphas.step}: ${state.family}:alpha-X.`
    : "";
}

async function decisions() {
  const answer = await fetch(new URL("playground/decisions", root), { headers: headers() }).catch(() => null);
  const notes = $("decisions-notes");
  if (!answer || !answer.ok) {
    table($("decisions"), [], []);
    notes.textContent = "They are told where /metrics is; here it is on the operators' port.";
    return;
  }
  const { seconds, decisions: found } = await answer.json();
  const rows = found.map((one) => [`${one.family}:${one.tier}`, one.decision, one.requests]);
  table($("decisions"), ["model", "rule", "requests"], rows);
  const minutes = Math.max(1, Math.round(seconds / 60));
  notes.textContent = `${rows.length ? "" : "None yet. "}Of the last ${minutes === 60 ? "hour" : minutes === 1 ? "minute" : `${minutes} minutes`}, all processes of this gateway together.`;
}

function table(element, head, rows) {
  const row = (cells, kind) => {
    const line = make("tr");
    line.append(...cells.map((cell) => {
      const made = make(kind, String(cell));
      if (typeof cell === "number") made.className = "number";
      return made;
    }));
    return line;
  };
  element.replaceChildren(...(head.length ? [row(head, "th")] : []), ...rows.map((cells) => row(cells, "td")));
}

const RULES = {
  explicit: "the question names the tier",
  auto: "chosen for this question",
  effort: "by the effort",
  default: "the default",
  deadline: "what the deadline leaves time for",
  budget: "what the budget of tokens allows",
  brownout: "the gateway is busy",
  fallback: "the nearest that is loaded",
};

// --- one answer ------------------------------------------------------------------------------------------------------

class Column {
  constructor(family, tier) {
    this.family = family;
    this.tier = tier;
    this.element = $("column").content.firstElementChild.cloneNode(true);
    this.find = (selector) => this.element.querySelector(selector);
    this.find("h3").textContent = tier;
    this.element.setAttribute("aria-label", `Tier ${tier}`);
    this.button("stop").addEventListener("click", () => this.stop());
    this.button("retry").addEventListener("click", () => this.ask(this.asked));
    this.button("copy").addEventListener("change", (event) => this.copy(event.target));
    this.measured(tier === "auto" ? null : cardOf(tier));
  }

  button(name) {
    return this.find(`[data-do=${name}]`);
  }

  figure(name, text) {
    this.find(`[data-figure=${name}]`).textContent = text;
  }

  measured(card) {
    const one = card && card.alphatier;
    this.find(".measured").textContent = one
      ? one.accuracy
        ? `measured: ${accuracy(one.accuracy)}, ${count(one.tokens.mean)} tokens`
        : one.figures
      : "chosen for each question";
  }

  stop() {
    this.abort?.abort("stopped");
  }

  async ask(asked) {
    this.stop();
    const abort = (this.abort = new AbortController());
    this.asked = asked;
    this.run = { start: performance.now(), thinking: "", answer: "", pieces: 0, first: null, answered: null, tokens: null, tier: this.tier };
    this.reset();
    this.clock = setInterval(() => this.show(), 100);
    try {
      await this.stream(asked, abort.signal);
      this.find(".state").textContent = this.run.cut ? "cut off" : "done";
    } catch (error) {
      if (abort.signal.aborted) this.find(".state").textContent = "stopped";
      else this.fail(error.message);
    } finally {
      clearInterval(this.clock);
      if (this.abort === abort) this.finish();
    }
  }

  reset() {
    this.element.classList.add("busy");
    this.find(".state").textContent = "asked";
    for (const selector of [".error", ".verdict", ".thinking"]) this.find(selector).hidden = true;
    for (const selector of [".answer", ".thinking .text", ".why"]) this.find(selector).textContent = "";
    for (const name of ["first", "answer", "tokens", "seconds", "saved"]) this.figure(name, "–");
    this.button("stop").disabled = false;
    this.button("retry").disabled = true;
    buttons();
  }

  async stream(asked, signal) {
    const body = { ...request(this, asked.question), stream: true, stream_options: { include_usage: true } };
    const answer = await fetch(new URL("v1/chat/completions", root), {
      method: "POST", headers: headers(), body: JSON.stringify(body), signal,
    }).catch((error) => {
      throw signal.aborted ? error : new Error("The gateway cannot be reached.");
    });
    if (!answer.ok) throw new Error(await refusal(answer));
    this.told(answer.headers);
    let whole = false;
    for await (const data of events(answer.body)) {
      if (data === "[DONE]") whole = true;
      else this.take(JSON.parse(data));
    }
    if (!whole) throw new Error("The answer broke off.");
  }

  /** Which tier answers, and why: the answer's headers. */
  told(told) {
    const [tier, rule, expected, otherwise, unlike] = ["tier", "decision", "expected", "otherwise", "unlike"].map((name) =>
      told.get(`x-alphatier-${name}`));
    this.run.tier = tier;
    if (this.tier !== tier) {
      this.find("h3").textContent = `${this.tier}: ${tier}`;
      this.measured(cardOf(tier));
    }
    const words = [RULES[rule] ?? rule];
    if (unlike) words.push(`the question is unlike the training data (${unlike})`);
    if (expected) {
      const known = Object.fromEntries(expected.split(", ").map((part) => part.split("=")));
      words.push(`expected to be right with ${percent(Number(known.chance))}, ${known.tokens} tokens, 9 of 10 within ${known.p90}`);
    }
    if (otherwise && otherwise !== tier) words.push(`otherwise ${otherwise}`);
    this.find(".why").textContent = `Why: ${words.join("; ")}.`;
    this.find(".state").textContent = "answering";
  }

  take(chunk) {
    if (chunk.error) throw new Error(chunk.error.message);
    const now = (performance.now() - this.run.start) / 1000;
    const choice = chunk.choices?.[0];
    const thinking = choice?.delta?.reasoning ?? choice?.delta?.reasoning_content ?? "";
    const content = choice?.delta?.content ?? "";
    if (thinking || content) {
      this.run.pieces += 1;
      this.run.first ??= now;
    }
    if (content) this.run.answered ??= now;
    this.run.thinking += thinking;
    this.run.answer += content;
    if (choice?.finish_reason === "length") this.run.cut = true;
    if (chunk.usage) {
      this.run.tokens = chunk.usage.completion_tokens;
      this.run.reasoning = chunk.usage.completion_tokens_details?.reasoning_tokens ?? null;
    }
    if (thinking || content) this.write();
  }

  /** Once a frame, whatever number of pieces came. */
  write() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      const { thinking, answer } = this.run;
      this.find(".thinking").hidden = !thinking.trim();
      put(this.find(".thinking .text"), thinking);
      put(this.find(".answer"), answer);
      this.show();
    });
  }

  show() {
    const { run } = this;
    const seconds = (value) => (value === null ? "–" : `${value.toFixed(value < 1 ? 3 : 2)} s`);
    const tokens = run.tokens ?? run.pieces;
    this.figure("first", seconds(run.first));
    this.figure("answer", seconds(run.answered));
    this.figure("tokens", run.tokens === null ? (tokens ? `~${tokens}` : "–") : String(tokens));
    this.figure("seconds", seconds(run.end ?? (performance.now() - run.start) / 1000));
    const words = run.reasoning ?? (run.thinking ? run.thinking.trim().split(/\s+/).length : 0);
    this.find(".thinking summary").textContent = `Thinking: ${words} ${run.reasoning == null ? "words" : "tokens"}`;
    this.saved(tokens);
  }

  /** Against the reference tier's answer to the same question, or its measured mean where it was not asked. */
  saved(tokens) {
    const most = reference();
    if (!most || !tokens || tierOf(most) === this.run.tier) return;
    const beside = state.columns.find((column) => column.tier === tierOf(most) && column.run?.tokens && column.asked === this.asked);
    const against = beside ? beside.run.tokens : most.alphatier.tokens.mean;
    this.figure("saved", `${(100 * (1 - tokens / against)).toFixed(0)} %`);
    this.find("[data-figure=saved]").previousElementSibling.textContent = `saved of ${tierOf(most)}'s ${count(against)}`;
  }

  fail(message) {
    this.find(".state").textContent = "failed";
    this.find(".error").textContent = message;
    this.find(".error").hidden = false;
    this.run.failed = true;
  }

  finish() {
    const { run } = this;
    run.end = (performance.now() - run.start) / 1000;
    this.element.classList.remove("busy");
    this.button("stop").disabled = true;
    this.button("retry").disabled = false;
    this.write();
    for (const column of state.columns) if (column.run && column.asked === this.asked) column.show();
    if (run.tokens !== null && !run.failed) {
      const right = this.asked.expected ? same(final(run.answer), this.asked.expected) : null;
      const verdict = this.find(".verdict");
      verdict.hidden = right === null;
      verdict.className = `verdict ${right ? "right" : "wrong"}`;
      verdict.textContent = right ? "✓ right" : `✗ wrong: it is ${this.asked.expected}`;
      state.answers.push({ tier: run.tier, tokens: run.tokens, right });
      if (state.answers.length > 500) state.answers.shift();
      draw();
    }
    buttons();
  }

  async copy(select) {
    const form = select.value;
    select.value = "";
    if (!form) return;
    const text = snippet(form, request(this, (this.asked ?? { question: $("question").value }).question));
    try {
      await navigator.clipboard.writeText(text);
      notice(`Copied as ${form}.`);
    } catch {
      notice(text);
    }
  }
}

const request = (column, question) => ({
  model: `${column.family}:${column.tier}`,
  messages: [{ role: "user", content: question }],
});

/** What stands in the last \boxed{…}, else the last number, else the whole. */
function final(text) {
  const boxed = [...text.matchAll(/\\boxed\{([^{}]*)\}/g)].at(-1);
  const number = [...text.matchAll(/-?\d[\d,]*(?:\.\d+)?/g)].at(-1);
  return boxed ? boxed[1] : number ? number[0] : text;
}

function same(given, expected) {
  const plain = (text) => text.trim().replace(/^\$|\$$/g, "").replace(/,(?=\d{3})/g, "").replace(/\.$/, "").toLowerCase();
  const [one, other] = [plain(given), plain(expected)];
  return one === other || (one !== "" && other !== "" && Number(one) === Number(other));
}

function put(element, text) {
  const down = element.scrollHeight - element.scrollTop - element.clientHeight < 24;
  element.textContent = text;
  if (down) element.scrollTop = element.scrollHeight;
}

function snippet(form, body) {
  const base = new URL("v1", root).href;
  const json = JSON.stringify(body, null, 2);
  const [model, question] = [JSON.stringify(body.model), JSON.stringify(body.messages[0].content)];
  if (form === "curl") {
    const quoted = json.replaceAll("'", `'\\''`);
    const key = state.key ? ` \\\n  -H "Authorization: Bearer $OPENAI_API_KEY"` : "";
    return `curl ${base}/chat/completions \\\n  -H 'Content-Type: application/json'${key} \\\n  -d '${quoted}'`;
  }
  if (form === "python") {
    return `from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(base)}, api_key=${state.key ? "..." : '"none"'})
answer = client.chat.completions.create(
    model=${model},
    messages=[{"role": "user", "content": ${question}}],
)
print(answer.choices[0].message.content, answer.usage.completion_tokens)
`;
  }
  return `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${JSON.stringify(base)}, apiKey: ${state.key ? "process.env.OPENAI_API_KEY" : '"none"'} });
const answer = await client.chat.completions.create({
  model: ${model},
  messages: [{ role: "user", content: ${question} }],
});
console.log(answer.choices[0].message.content, answer.usage.completion_tokens);
`;
}

// --- the picture -----------------------------------------------------------------------------------------------------

function draw() {
  const known = tiers().filter(measured).map(({ alphatier: one }) => one);
  $("chart-box").hidden = known.length < 2;
  if (known.length < 2) return;
  const width = Math.min(960, Math.max(320, $("chart").clientWidth));
  const [height, left, right, top, bottom] = [340, 52, 20, 24, 40];
  const placed = state.answers.map((answer) => ({ ...answer, card: cardOf(answer.tier) })).filter((one) => one.card && measured(one.card));
  const most = 1.08 * Math.max(...known.map((one) => one.tokens.high), ...placed.map((one) => one.tokens));
  const least = Math.max(0, Math.min(...known.map((one) => one.accuracy.low)) - 0.01);
  const x = (tokens) => left + ((width - left - right) * tokens) / most;
  const y = (accuracy) => top + ((height - top - bottom) * (1 - accuracy)) / (1 - least);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
  const title = shape("title", {});
  title.textContent = `Accuracy against tokens: ${known.map((one) => `${one.tier} ${percent(one.accuracy.mean)} at ${count(one.tokens.mean)}`).join("; ")}`;
  svg.append(title);
  for (const tokens of ticks(0, most)) {
    svg.append(line(x(tokens), y(1), x(tokens), y(least), "grid"), text(x(tokens), height - bottom + 18, String(tokens), "middle"));
  }
  for (const share of ticks(100 * least, 100)) {
    svg.append(line(left, y(share / 100), width - right, y(share / 100), "grid"), text(left - 8, y(share / 100) + 4, `${share}%`, "end"));
  }
  svg.append(text((left + width - right) / 2, height - 4, "tokens an answer", "middle"));
  for (const one of placed) {
    const jitter = (Math.random() - 0.5) * 6;
    svg.append(shape("circle", {
      cx: x(one.tokens), cy: y(one.card.alphatier.accuracy.mean) + jitter, r: 5,
      class: `dot ${one.right === null ? "" : one.right ? "right" : "wrong"}`,
    }));
  }
  known.sort((one, other) => one.tokens.mean - other.tokens.mean);
  for (const [index, one] of known.entries()) {
    const [cx, cy] = [x(one.tokens.mean), y(one.accuracy.mean)];
    svg.append(
      line(x(one.tokens.low), cy, x(one.tokens.high), cy, "interval"),
      line(cx, y(one.accuracy.low), cx, y(one.accuracy.high), "interval"),
      shape("rect", { x: cx - 4, y: cy - 4, width: 8, height: 8, class: "tier" }),
      text(cx + 8, cy + (index % 2 ? 18 : -8), one.tier, cx > width - 90 ? "end" : "start", "name"),
    );
  }
  $("chart").replaceChildren(svg);
}

function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) found.push(Number(at.toPrecision(6)));
  return found;
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const line = (x1, y1, x2, y2, kind) => shape("line", { x1, y1, x2, y2, class: kind });

function text(x, y, words, anchor, kind = "") {
  const made = shape("text", { x, y, "text-anchor": anchor, class: kind });
  made.textContent = words;
  return made;
}

// --- the page --------------------------------------------------------------------------------------------------------

function make(name, words = "") {
  const made = document.createElement(name);
  made.textContent = words;
  return made;
}

function notice(words) {
  $("notice").textContent = words;
  $("notice").hidden = !words;
}

function buttons() {
  const busy = state.columns.some((column) => column.element.classList.contains("busy"));
  $("stop").disabled = !busy;
}

/** A sum as the shipped family knows them: worked from left to right, every running value from 0 to 99. */
function sum() {
  const upTo = (most) => Math.floor(Math.random() * (most + 1));
  let value = upTo(99);
  let words = String(value);
  for (let left = Number($("operations").value); left > 0; left -= 1) {
    const add = value === 0 || (value < 99 && Math.random() < 0.5);
    const operand = 1 + upTo((add ? 99 - value : value) - 1);
    value += add ? operand : -operand;
    words += ` ${add ? "+" : "-"} ${operand}`;
  }
  $("question").value = `What is ${words}?`;
  $("expected").value = String(value);
}

function view(family) {
  $("ask-view").hidden = family;
  $("family-view").hidden = !family;
  $("show-ask").setAttribute("aria-pressed", String(!family));
  $("show-family").setAttribute("aria-pressed", String(family));
  if (family) decisions();
}

$("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  notice("");
  const asked = { question: $("question").value, expected: $("expected").value.trim() };
  if (!state.columns.length) notice("Choose a tier.");
  for (const column of state.columns) column.ask(asked);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask-form").requestSubmit();
});
$("question").addEventListener("input", () => ($("expected").value = ""));
$("stop").addEventListener("click", () => state.columns.forEach((column) => column.stop()));
$("draw").addEventListener("click", sum);
$("tiers").addEventListener("change", columns);
$("family").addEventListener("change", (event) => choose(event.target.value));
$("show-ask").addEventListener("click", () => view(false));
$("show-family").addEventListener("click", () => view(true));
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.key = $("key").value.trim();
  sessionStorage.setItem("key", state.key);
  $("key-box").open = false;
  load();
});
addEventListener("resize", draw);
load();
