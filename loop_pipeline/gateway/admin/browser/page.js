// Draws the figures of numbers.json every few seconds, and changes only what is new.
// Text of traces goes in as text, never as HTML.
import { openRequest } from "./request.js";
import { clock, duration, make, money, none, percent, plural, price, put, style, whole } from "./words.js";

const PAUSE_MS = 2000;
// Whom the gateway calls so came without a key, as none is needed.
const OPEN = "anybody here";
const LANES = ["student", "escalated", "frontier"];
const WHO = { student: "student", escalated: "frontier, after the student", frontier: "frontier" };
const $ = (id) => document.getElementById(id);

function bytes(n) {
  return n < 1e6 ? `${Math.ceil(n / 1e3)} kB` : n < 1e9 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e9).toFixed(2)} GB`;
}

function age(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} minutes` : `${(seconds / 3600).toFixed(1)} hours`;
}

function showHead(n) {
  const p = n.policy;
  if (p) {
    const ends = p.expires ? `; its certificates end on ${p.expires}` : "";
    const trial = p.canary ? `; on trial: ${p.canary}` : "";
    const who = p.student ? `${p.student} is asked before ${p.frontier}` : `${p.frontier} answers everything`;
    put($("policy"), `Policy ${p.sha256.slice(0, 12)}: ${who}${trial}${ends}`);
  } else put($("policy"), "No policy in force: the frontier answers everything");
  put($("fresh"), `${clock(n.now)} · you are: ${n.viewer}`);
}

function showProblems(texts) {
  const box = $("problems");
  if (box.dataset.shown === JSON.stringify(texts)) return;
  box.dataset.shown = JSON.stringify(texts);
  box.replaceChildren(...texts.map((text) => make("p", text, "banner")));
}

function showTiles(n) {
  const t = n.today;
  put($("share"), t.requests ? percent(t.student / t.requests) : "–");
  showLines($("share-words"), t.requests
    ? [`${whole(t.student)} of ${plural(t.requests, "request")}`, `${whole(t.escalated)} went on from the student to the frontier`, `${whole(t.frontier)} went to the frontier at once`]
    : ["No request yet today (UTC)"]);
  showBill("today", n.today.bill);
  showBill("month", n.month.bill);
  showAgreement(n.promise, n.policy?.margin);
}

function showBill(name, b) {
  put($(name), `${Object.keys(b.unpriced ?? {}).length ? "at least " : ""}${money(b.paid_usd)}`);
  const words = [`All-frontier: not known, ${b.why}`];
  if (!none(b.all_frontier_usd)) {
    const range = none(b.low_usd) ? "no interval yet" : b.low_usd === b.high_usd ? "exactly" : `${money(b.low_usd, "")} to ${money(b.high_usd)}`;
    words[0] = `All-frontier: ${money(b.all_frontier_usd)} (${range}), estimated`;
    if (savingWords(b)) words.push(savingWords(b));
  }
  if (!none(b.student_per_hour)) words.push(`The student's server pays ${none(b.break_even_per_hour) ? "at no load known yet" : `from ${whole(Math.ceil(b.break_even_per_hour))} requests an hour on`}; it was asked ${b.student_per_hour.toFixed(b.student_per_hour < 10 ? 1 : 0)} an hour`);
  words.push(`Paid: frontier ${money(b.frontier_usd)}, student's server ${money(b.student_usd)} (${b.rent_hours.toFixed(1)} h of rent)`);
  showLines($(`${name}-words`), words);
  $(`${name}-words`).title = `The estimate: ${b.why}; 95% interval`;
}

function showLines(node, texts) {
  while (node.children.length > texts.length) node.lastChild.remove();
  texts.forEach((text, i) => put(node.children[i] ?? node.appendChild(make("span")), text));
}

function savingWords(b) {
  if (none(b.saved_share)) return "";
  const word = b.saved_share >= 0 ? "Saved" : "Costs more by";
  const range = none(b.saved_low) || b.saved_low === b.saved_high ? ""
    : ` (${percent(Math.abs(b.saved_low))} to ${percent(Math.abs(b.saved_high))})`;
  return `${word} ${percent(Math.abs(b.saved_share))}${range}, estimated`;
}

const STATES = { kept: ["kept", "kept"], "in doubt": ["in doubt", "doubt"], broken: ["broken", "broken"], "nothing served": ["not measured yet", ""] };

// What is promised is a fixed share, or the frontier's agreement with itself less a margin.
function promised(target, margin) {
  return none(margin) ? `at least ${percent(target)}` : `as often as the frontier with itself, less ${(100 * margin).toFixed(1)} points (broken for sure below ${percent(target)})`;
}

function upper(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function showAgreement(p, margin) {
  const node = $("agreement");
  put(node, p ? percent(p.agreement) : "–");
  style(node, p ? STATES[p.state][1] : "");
  const words = ["No policy, so nothing is promised"];
  if (p) words[0] = `Promised: ${promised(p.target, margin)}, ${STATES[p.state][0]}`;
  if (p && !p.checked) words.push("None of the student's answers was checked yet; a share of them is, by chance");
  if (p?.checked) words.push(`${whole(p.agreed)} of ${plural(p.checked, "checked answer")} this month`, `Exact 95% interval: ${percent(p.low)} to ${percent(p.high)}`);
  if (p) words.push(upper(p.ceiling_words));
  showLines($("agreement-words"), words);
}

function showChart(minutes) {
  const svg = $("chart");
  const sums = minutes.map((m) => LANES.reduce((sum, lane) => sum + m[lane], 0));
  const most = Math.max(1, ...sums);
  const last = minutes[minutes.length - 2];
  const busy = sums.reduce((a, b) => a + b, 0);
  const parts = LANES.map((lane) => `${whole(last[lane])} ${{ student: "by the student", escalated: "after the student by the frontier", frontier: "by the frontier at once" }[lane]}`);
  put($("rate"), `Last whole minute: ${whole(sums[sums.length - 2])} (${parts.join(", ")}). Last hour: ${whole(busy)}; most in a minute: ${whole(Math.max(...sums))}.`);
  put($("chart-from"), clock(`${minutes[0].minute}Z`, false));
  put($("chart-to"), "now");
  const wide = 720 / minutes.length;
  minutes.forEach((m, i) => {
    let top = 150;
    LANES.forEach((lane, k) => {
      let bar = svg.children[i * LANES.length + k];
      if (!bar) {
        bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        bar.setAttribute("class", lane);
        svg.append(bar);
      }
      const high = (146 * m[lane]) / most;
      top -= high;
      const place = { x: i * wide + 1, y: top, width: wide - 2, height: high };
      for (const [name, value] of Object.entries(place)) {
        if (bar.getAttribute(name) !== value.toFixed(2)) bar.setAttribute(name, value.toFixed(2));
      }
    });
  });
}

// Rows keep their nodes: what is focused or being read does not move under the reader.
function showRows(body, rows, key, heads, fill) {
  const known = new Map([...body.children].map((node) => [node.dataset.key, node]));
  const wanted = new Set(rows.map(key));
  for (const [name, node] of known) if (!wanted.has(name)) node.remove();
  rows.forEach((row, i) => {
    let node = known.get(key(row));
    if (!node) {
      node = make("tr");
      node.dataset.key = key(row);
      for (const head of heads) {
        const cell = node.insertCell();
        cell.dataset.head = head;
        cell.append(make("div"));
      }
    }
    if (body.children[i] !== node) body.insertBefore(node, body.children[i] ?? null);
    fill(node, [...node.cells].map((cell) => cell.firstChild), row);
  });
}

function lines(node, first, second = "", name = "") {
  if (!node.firstChild) node.append(make("span"), make("small"));
  put(node.firstChild, first);
  put(node.lastChild, second);
  style(node.firstChild, name);
}

const GROUP_HEADS = ["task group", "requests", "answered by the student", "certified", "agreement", "promise"];

function showGroups(n) {
  $("groups-card").hidden = !n.policy;
  if (!n.promise) return;
  const p = n.promise;
  put($("promise"), `Under the policy in force: the student answered ${percent(p.coverage)} of ${plural(p.requests, "request")}; its certificates lead to expect ${percent(p.certified_coverage)}. Agreement: how many of its answers that went out say the same as the frontier's to the same requests, where both were asked by chance. Its ceiling: how often the frontier agrees with itself, asked twice.`);
  showRows($("groups").tBodies[0], n.groups, (g) => g.group_id, GROUP_HEADS, (row, cells, g) => {
    const [name, requests, share, certified, agreement, promise] = cells;
    lines(name, g.name, g.held ? `held: ${g.held}` : "");
    put(requests, whole(g.requests));
    put(share, percent(g.coverage));
    put(certified, g.arm === "student" ? percent(g.certified_coverage) : "frontier only");
    lines(agreement, percent(g.agreement), [g.checked ? `${percent(g.low)} to ${percent(g.high)}, ${plural(g.checked, "answer")}` : "", `ceiling ${none(g.ceiling) ? "not measured" : percent(g.ceiling)}`].filter(Boolean).join("; "));
    agreement.title = g.ceiling_words;
    const [word, colour] = STATES[g.state];
    if (g.arm === "student") lines(promise, none(n.policy.margin) ? `${percent(g.target)}: ${word}` : `relative to the ceiling: ${word}`, "", colour);
    else lines(promise, "none", g.reason);
  });
}

function showSides(n) {
  const holds = $("holds");
  const shown = JSON.stringify(n.holds);
  if (holds.dataset.shown !== shown) {
    holds.dataset.shown = shown;
    if (!n.holds.length) holds.replaceChildren(make("p", "None: every certified group may go to its student."));
    else {
      const list = make("ul");
      for (const h of n.holds) {
        const since = h.since ? ` since ${clock(h.since, false)}` : "";
        list.append(make("li", `${h.name}: ${h.reason || "the frontier answers it until it is released"}${since}${h.actor ? `, by ${h.actor}` : ""}`));
      }
      holds.replaceChildren(list);
    }
  }
  const s = n.spool;
  const left = s.unread_bytes ? ` ${bytes(s.unread_bytes)} of it is still being read and not in the figures.` : "";
  put($("spool"), s.segments
    ? `${plural(s.traces, "request")} in ${plural(s.segments, "file")} (${bytes(s.bytes)}), the oldest ${age(s.oldest_s ?? 0)} old.${left} They are in the figures already.`
    : "Nothing: every request is in the store.");
}

const HEADS = ["time", "request", "answered by", "why", "latency", "cost"];

function showNewest(n) {
  $("newest-card").hidden = !n.newest.length;
  showRows($("newest").tBodies[0], n.newest, (r) => r.prompt_id, HEADS, (row, cells, r) => {
    const [time, request, who, why, latency, cost] = cells;
    put(time, clock(r.ts));
    style(time, "time");
    if (!request.firstChild) {
      const button = make("button", "", "open");
      button.type = "button";
      button.addEventListener("click", () => openRequest(r.prompt_id));
      request.append(button, make("small"));
    }
    put(request.firstChild, r.text || "(no text)");
    put(request.lastChild, [r.task, r.group && r.group !== r.task ? r.group : null].filter(Boolean).join(" · "));
    if (!who.firstChild) who.append(make("i", "", `key ${r.lane}`), make("span"), make("small"));
    put(who.children[1], WHO[r.lane]);
    put(who.children[2], r.lane === "student" ? r.adapter ?? "" : r.model ?? "");
    put(why, r.reason);
    put(latency, duration(r.latency_ms));
    style(latency, "number");
    put(cost, price(r.cost_usd));
    style(cost, "number");
  });
}

function show(n) {
  const busy = n.newest.length > 0 || n.month.requests > 0;
  $("empty").hidden = busy;
  $("figures").hidden = !busy;
  if (!busy) {
    const key = n.viewer === OPEN ? "" : ' \\\n  -H "authorization: Bearer $LOOP_KEY"';
    put($("curl"), `curl ${location.origin}/v1/chat/completions \\\n  -H "content-type: application/json"${key} \\\n  -d '{"model": "auto", "messages": [{"role": "user", "content": "Where is my order?"}]}'`);
  }
  showHead(n);
  showTiles(n);
  showChart(n.minutes);
  showGroups(n);
  showSides(n);
  showNewest(n);
  showProblems(n.problems);
}

let timer = 0;
let lost = null;

async function turn() {
  clearTimeout(timer);
  if (!document.hidden) {
    try {
      const reply = await fetch("/page/numbers.json");
      if (!reply.ok) throw new Error(`it answers ${reply.status}`);
      show(await reply.json());
      lost = null;
    } catch (error) {
      lost ??= new Date().toISOString();
      showProblems([`No figures from the gateway since ${clock(lost)} (${error.message}); this page tries again by itself.`]);
    }
  }
  timer = setTimeout(turn, PAUSE_MS);
}

document.addEventListener("visibilitychange", turn);
turn();
