// One request: its conversation, why it was answered so, and what the viewer thinks of the answer.
import { clock, duration, make, percent, price } from "./words.js";

const dialog = document.getElementById("request");
const body = document.getElementById("request-body");
const NAMES = { thumb_up: "good", thumb_down: "bad", modified: "edited", accepted: "accepted", rejected: "rejected", review: "reviewed" };
let opened = null;

export function openRequest(promptId) {
  location.hash = encodeURIComponent(promptId);
}

async function read(promptId) {
  const reply = await fetch(`/page/requests/${encodeURIComponent(promptId)}`);
  const found = await reply.json();
  if (!reply.ok) throw new Error(found.error?.message ?? `the gateway answers ${reply.status}`);
  return found;
}

async function follow() {
  const promptId = decodeURIComponent(location.hash.slice(1));
  if (!promptId) {
    if (dialog.open) dialog.close();
    return;
  }
  opened = promptId;
  body.replaceChildren(make("p", "Reading…", "soft"));
  if (!dialog.open) dialog.showModal();
  try {
    const found = await read(promptId);
    if (opened === promptId) draw(found);
  } catch (error) {
    body.replaceChildren(make("p", `This request cannot be shown: ${error.message}`, "banner"));
  }
}

function draw(r) {
  document.getElementById("request-title").textContent = `Request of ${clock(r.ts)}`;
  body.replaceChildren(
    ...section("Conversation", r.conversation.map((turn) => said(turn.role, [{ text: turn.text, why: null }]))),
    ...section(`Answer of ${r.lane === "student" ? "the student" : "the frontier"}`, [answer(r), ...doubts(r.flag, r.answer)]),
    ...section("Is the answer good?", [judge(r), list(r.feedback.map(feedbackWords), "No feedback yet.")]),
    ...section("Why it was answered so", [list(r.decision, "It did not come through the gateway, so no decision is known.")]),
    ...section("How sure the model was", [sureness(r.logprobs)]),
    ...(r.others.length ? section("Other answers to the same request", r.others.map(other)) : []),
    ...section("Figures", [facts(r)]),
  );
}

function section(title, nodes) {
  return [make("h3", title), ...nodes];
}

function said(who, parts, style = "") {
  const turn = make("div", "", `turn ${style}`);
  turn.append(make("b", who), ...parts.map((part) => {
    if (part.why === null) return document.createTextNode(part.text);
    const mark = make("mark", part.text);
    mark.title = part.why;
    return mark;
  }));
  return turn;
}

function answer(r) {
  return said(r.served_model || r.model, r.answer, `answer ${r.lane}`);
}

function doubts(flag, parts) {
  if (!flag) return [];
  const words = { yes: "What it says is borne out by its request.", no: "It says what its request does not bear out.", cannot_tell: "There is nothing to hold it against." }[flag.grounded] ?? "";
  const state = flag.flagged ? "Flagged as a possible hallucination. " : "Not flagged as a hallucination. ";
  const marked = parts.filter((part) => part.why !== null).map((part) => `“${part.text}”: ${part.why}`);
  return [make("p", state + words, "soft"), ...(flag.reasons.length || marked.length ? [list([...flag.reasons, ...marked], "")] : [])];
}

function list(texts, empty) {
  if (!texts.length) return make("p", empty, "soft");
  const node = make("ul");
  node.append(...texts.map((text) => make("li", text)));
  return node;
}

function feedbackWords(f) {
  const value = f.value === null || f.value === undefined ? "" : ` (${f.value})`;
  const edit = f.edited_output ? `: “${f.edited_output}”` : "";
  return `${NAMES[f.kind] ?? f.kind}${value} by ${f.actor ?? "an application"}, ${clock(f.ts)}${edit}`;
}

function sureness(lines) {
  if (!lines.length) return make("p", "Not known: only students' answers come with log-probabilities.", "soft");
  const node = make("dl", "", "facts");
  for (const line of lines) {
    node.append(make("dt", line.what), make("dd", `${percent(line.probability)} (log-probability ${line.logprob.toFixed(3)})`));
  }
  return node;
}

function other(o) {
  const verdict = o.agrees ? "says the same" : "says something else";
  const who = o.producer === "frontier" ? "the frontier" : o.who;
  const settled = o.settled ? `, ${o.settled}` : "";
  return said(`${who}: ${verdict}${settled} · ${duration(o.latency_ms)} · ${price(o.cost_usd)}`, [{ text: o.output, why: null }]);
}

function facts(r) {
  const rows = {
    "prompt id": r.prompt_id, time: `${clock(r.ts)} (${r.ts})`, application: r.app, task: r.task,
    conversation: r.conversation_id, "model asked for": r.model, "model that answered": r.served_model,
    ended: r.finish_reason,
    tokens: `${r.tokens_in ?? 0} in (${r.tokens_cached ?? 0} cached), ${r.tokens_out ?? 0} out`,
    latency: `${duration(r.latency_ms)}, first byte after ${duration(r.first_byte_ms)}`,
    cost: price(r.cost_usd), policy: r.route?.policy,
  };
  const node = make("dl", "", "facts");
  for (const [name, value] of Object.entries(rows)) {
    if (value !== null && value !== undefined && value !== "") node.append(make("dt", name), make("dd", String(value)));
  }
  return node;
}

function button(text, pressed) {
  const node = make("button", text);
  node.type = "button";
  node.addEventListener("click", pressed);
  return node;
}

function judge(r) {
  const box = make("div");
  const buttons = make("div", "", "buttons");
  const edit = make("div");
  const note = make("p", "", "soft");
  note.setAttribute("role", "status");
  edit.hidden = true;
  const label = make("label", "What it should have been");
  label.htmlFor = "edited";
  const area = make("textarea");
  area.id = "edited";
  area.value = r.output;
  const send = button("Send the edit", () => give("modified", area.value));
  send.disabled = true;
  area.addEventListener("input", () => { send.disabled = !area.value.trim() || area.value === r.output; });
  edit.append(label, area, send);
  const all = [button("Good", () => give("thumb_up")), button("Bad", () => give("thumb_down")), button("Edit", () => { edit.hidden = !edit.hidden; if (!edit.hidden) area.focus(); })];
  buttons.append(...all);

  async function give(kind, edited) {
    const said = { prompt_id: r.prompt_id, kind, ...(edited === undefined ? {} : { edited_output: edited }) };
    for (const each of [...all, send]) each.disabled = true;
    try {
      const reply = await fetch("/page/feedback", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(said) });
      const found = await reply.json();
      if (!reply.ok) throw new Error(found.error?.message ?? `the gateway answers ${reply.status}`);
      note.textContent = `Noted as “${NAMES[kind]}” by ${found.actor}.`;
      edit.hidden = true;
      box.nextSibling?.replaceWith(list([...r.feedback, found].map(feedbackWords), ""));
      r.feedback.push(found);
    } catch (error) {
      note.textContent = `Not noted: ${error.message}`;
    }
    for (const each of all) each.disabled = false;
    send.disabled = area.value === r.output;
  }

  box.append(buttons, edit, note);
  return box;
}

document.getElementById("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  opened = null;
  history.replaceState(null, "", location.pathname);
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
window.addEventListener("hashchange", follow);
if (location.hash) follow();
