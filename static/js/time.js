// <kv-time> keeps "3 min ago" true while a page stays open; <kv-countdown> counts seconds down.
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

export function span(seconds) {
  const s = Math.abs(Math.trunc(seconds));
  const at = UNITS.findIndex(([size]) => s >= size);
  if (at < 0) return "0 s";
  const [size, name] = UNITS[at];
  const first = `${Math.floor(s / size)} ${name}`;
  const next = UNITS[at + 1];
  const rest = next ? Math.floor((s % size) / next[0]) : 0;
  const both = name === "h" || (name === "d" && s < 3 * 86400);
  return both && rest ? `${first} ${rest} ${next[1]}` : first;
}

class Time extends HTMLElement {
  connectedCallback() {
    this.timer = setInterval(() => this.draw(), 15000);
  }

  disconnectedCallback() {
    clearInterval(this.timer);
  }

  draw() {
    const time = this.querySelector("time");
    const away = (Date.parse(time?.dateTime) - Date.now()) / 1000;
    if (!time || Number.isNaN(away)) return;
    if (Math.abs(away) >= 86400 && !this.hasAttribute("always")) return;
    if (Math.abs(away) < 5) time.textContent = "just now";
    else time.textContent = away > 0 ? `in ${span(away)}` : `${span(away)} ago`;
  }
}

class Countdown extends HTMLElement {
  connectedCallback() {
    const end = Date.now() + Number(this.getAttribute("seconds")) * 1000;
    this.timer = setInterval(() => {
      const left = Math.max(0, Math.ceil((end - Date.now()) / 1000));
      this.textContent = `${left} s`;
      if (left) return;
      clearInterval(this.timer);
      this.dispatchEvent(new CustomEvent("kv:done", { bubbles: true }));
    }, 250);
  }

  disconnectedCallback() {
    clearInterval(this.timer);
  }
}

customElements.define("kv-time", Time);
customElements.define("kv-countdown", Countdown);
