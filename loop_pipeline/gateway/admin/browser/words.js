// How figures and moments are written, and nodes that hold nothing but text.
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
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

export function money(usd) {
  if (none(usd)) return "–";
  if (usd === 0) return "0 USD";
  const size = Math.abs(usd);
  if (size < 0.0000005) return "under 0.000001 USD";
  const digits = size >= 1 ? 2 : Math.min(6, 2 - Math.ceil(Math.log10(size)) + (size >= 0.1 ? 0 : 1));
  return `${usd.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: digits })} USD`;
}

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
