// How figures and moments are written, and nodes that hold nothing but text.
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function style(node, name) {
  if (node.className !== name) node.className = name;
}

export function make(tag, text = "", style = "") {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  if (style) node.className = style;
  return node;
}

export const none = (value) => value === null || value === undefined;
export const percent = (share) => (none(share) ? "–" : `${(100 * share).toFixed(1)}%`);
export const whole = (n) => n.toLocaleString("en");
export const plural = (n, word) => `${whole(n)} ${word}${n === 1 ? "" : "s"}`;

export function money(usd, unit = " USD") {
  if (none(usd)) return "–";
  const size = Math.abs(usd);
  if (size > 0 && size < 0.0000005) return `under 0.000001${unit}`;
  // Three digits that say something, and never less than whole cents.
  const digits = size >= 0.1 || size === 0 ? 2 : Math.min(6, 2 - Math.floor(Math.log10(size)));
  return usd.toLocaleString("en", { minimumFractionDigits: size === 0 ? 0 : 2, maximumFractionDigits: digits }) + unit;
}

/** What an answer did cost; what has no price is never shown as 0. */
export const price = (usd) => (none(usd) ? "unpriced" : money(usd));

export function duration(ms) {
  if (none(ms)) return "–";
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function clock(iso, seconds = true) {
  const options = { hour: "2-digit", minute: "2-digit", hour12: false };
  if (seconds) options.second = "2-digit";
  const moment = new Date(iso);
  const time = moment.toLocaleTimeString("en-GB", options);
  const sameDay = moment.toDateString() === new Date().toDateString();
  return sameDay ? time : `${moment.toLocaleDateString("en-CA")} ${time}`;
}
