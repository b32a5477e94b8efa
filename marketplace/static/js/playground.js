// A model's playground: the browser itself calls the metered address, as any client would.

const form = document.querySelector("[data-playground]");
const field = form.querySelector("textarea");
const picture = form.querySelector("[type=file]"); // Of a model that takes images: there is no text then.
const preview = form.querySelector("[data-preview]");
const result = document.querySelector("[data-result]");
const say = (name) => form.dataset[name];
let key = null;

async function obtainKey() {
  if (key && key.expiresAt > Date.now() + 60_000) return key.secret;
  const reply = await fetch(form.dataset.keyUrl, {
    method: "POST",
    headers: { "X-CSRFToken": form.querySelector("[name=csrfmiddlewaretoken]").value },
    body: new URLSearchParams({ model: form.dataset.model }),
  });
  const body = await reply.json();
  if (!reply.ok) throw new Error(body.detail);
  key = { secret: body.key, expiresAt: Date.parse(body.expires_at) };
  return key.secret;
}

let lastInput = "";

// The chosen file as data:image/png;base64,..., which the API takes as it is.
function readPicture() {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error(say("failed"))));
    reader.readAsDataURL(picture.files[0]);
  });
}

async function call(url) {
  const secret = await obtainKey();
  lastInput = picture ? await readPicture() : field.value;
  const started = performance.now();
  const reply = await fetch(url, {
    method: "POST",
    headers: { "Authorization": `Bearer ${secret}`, "Content-Type": "application/json" },
    body: JSON.stringify({ input_data: [lastInput] }),
  });
  const text = await reply.text();
  const latencyMs = performance.now() - started;
  let body = {};
  try { body = JSON.parse(text); } catch { /* Not JSON: a proxy's page. Its status is shown. */ }
  if (reply.status === 401) key = null; // Expired or revoked meanwhile: the next run gets another.
  if (!reply.ok) throw new Error(body.detail ?? `HTTP ${reply.status}`);
  return { body, latencyMs };
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// "$0.0000046": all the digits there are, at least two.
function money(cost, currency) {
  const [units, decimals = ""] = cost.split(".");
  const shown = decimals.replace(/0+$/, "").padEnd(2, "0");
  return `${{ usd: "$", eur: "€", cny: "¥" }[currency] ?? `${currency.toUpperCase()} `}${units}.${shown}`;
}

// A test key's call costs nothing; what it would have cost is the same units at the live price.
function cost(usage) {
  if (usage.livemode !== false) return money(usage.cost, usage.currency);
  if (!form.dataset.unitNanos) return "–"; // By tiers: it depends on what the month used before.
  const nanos = BigInt(usage.units) * BigInt(form.dataset.unitNanos);
  const digits = nanos.toString().padStart(10, "0");
  return money(`${digits.slice(0, -9)}.${digits.slice(-9)}`, usage.currency);
}

function fact(label, value) {
  const line = element("span");
  line.append(`${label} `, element("b", "", value));
  return line;
}

function score({ label, score: value }) {
  const row = element("li", "score");
  const track = element("div", "score__track");
  const fill = element("div", "score__fill");
  fill.style.width = `${Math.max(value * 100, 1)}%`;
  track.append(fill);
  row.append(element("span", "", label), track, element("span", "score__value", `${(value * 100).toFixed(1)} %`));
  return row;
}

// Latency, units and cost of an answer.
function answerFacts(body, latencyMs) {
  const facts = element("p", "meter-line");
  facts.append(
    fact(say("latencyLabel"), `${latencyMs.toFixed(latencyMs < 10 ? 1 : 0)} ms`),
    fact(say("unitsLabel"), String(body.usage.units)),
    fact(body.usage.livemode === false ? say("wouldCostLabel") : say("costLabel"), cost(body.usage)),
  );
  return facts;
}

function showAnswer({ body, latencyMs }) {
  const scores = element("ul", "scores");
  const rows = Array.isArray(body.prediction?.[0]) ? body.prediction[0].filter((row) => typeof row?.label === "string") : [];
  scores.append(...rows.map(score));
  const facts = answerFacts(body, latencyMs);
  const details = element("details", "details");
  details.open = rows.length === 0; // Numbers, not labels: the reply is all there is to see.
  const pre = element("pre", "code--wrap", JSON.stringify(body, null, 2));
  pre.tabIndex = 0;
  const box = element("div", "code");
  box.append(pre);
  details.append(element("summary", "", say("replyLabel")), box);
  const stack = element("div", "stack stack--s");
  stack.append(scores, facts, details);
  result.replaceChildren(stack);
}

// "+12.3" or "−4.0": percentage points, with a sign that is not a hyphen.
function points(attribution) {
  const shown = Math.abs(attribution * 100).toFixed(1);
  return `${attribution < 0 ? "\u2212" : "+"}${shown}`;
}

// A word that moved the score: its sign and size are written, and the underline differs, so that colour only helps.
function marked(text, attribution, strongest) {
  const node = element("mark", `moved moved--${attribution < 0 ? "against" : "for"}`, text);
  node.style.setProperty("--strength", `${Math.round((Math.abs(attribution) / strongest) * 100)}%`);
  const value = element("sup", "moved__points num", points(attribution));
  value.title = say(attribution < 0 ? "explainAgainst" : "explainFor");
  node.append(value);
  return node;
}

function showExplanation({ body, latencyMs }) {
  const [{ label, score: value, elements }] = body.explanation;
  const strongest = Math.max(...elements.map(({ attribution }) => Math.abs(attribution)), 0.005);
  const text = element("p", "explained");
  const characters = Array.from(lastInput); // Places are counted in characters, not in JavaScript's 16-bit halves of some.
  const between = (start, stop) => characters.slice(start, stop).join("");
  let end = 0;
  for (const word of elements) {
    // Two words may stand on one character; what lies between words is not marked.
    text.append(between(end, word.start));
    const shown = between(Math.max(end, word.start), word.end);
    text.append(Math.abs(word.attribution) < 0.005 ? shown : marked(shown, word.attribution, strongest));
    end = Math.max(end, word.end);
  }
  text.append(between(end));
  const scores = element("ul", "scores");
  scores.append(score({ label, score: value }));
  const legend = element("p", "muted small");
  legend.append(
    element("span", "moved moved--for", "+"), ` ${say("explainFor")}, `,
    element("span", "moved moved--against", "\u2212"), ` ${say("explainAgainst")}. ${say("explainNote")}`,
  );
  const stack = element("div", "stack stack--s");
  stack.append(scores, text, legend, answerFacts(body, latencyMs));
  result.replaceChildren(stack);
}

function showEstimate({ body }) {
  const facts = element("p", "meter-line");
  facts.append(fact(say("unitsLabel"), String(body.usage.units)), fact(say("atMostLabel"), cost(body.usage)));
  result.replaceChildren(facts);
}

function showError(error) {
  const box = element("div", "alert alert--bad");
  box.append(element("div", "", error.message || say("failed")));
  result.replaceChildren(box);
}

async function run(url, show) {
  const buttons = form.querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  result.setAttribute("aria-busy", "true");
  try {
    show(await call(url));
  } catch (error) {
    showError(error);
  } finally {
    for (const button of buttons) button.disabled = false;
    result.removeAttribute("aria-busy");
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const action = event.submitter?.dataset.action;
  if (action === "estimate") run(form.dataset.estimateUrl, showEstimate);
  else if (action === "explain") run(form.dataset.explainUrl, showExplanation);
  else run(form.dataset.predictUrl, showAnswer);
});

picture?.addEventListener("change", async () => {
  preview.hidden = picture.files.length === 0;
  if (!preview.hidden) preview.src = await readPicture();
});

for (const chip of form.querySelectorAll("[data-example]")) {
  chip.addEventListener("click", () => {
    field.value = chip.dataset.example;
    form.requestSubmit(form.querySelector("[type=submit]"));
  });
}
for (const button of form.querySelectorAll("[data-needs-js]")) button.disabled = false;
