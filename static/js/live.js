// One small poll a page. Elements say what they show: data-live="queue" hx-trigger="kv:changed".
const EVERY = 5000;
const IDLE = 30000;
const topics = () => [...new Set([...document.querySelectorAll("[data-live]")].map((element) => element.dataset.live))];
const versions = new Map();
let failures = 0;
let lastSeen = new Date();
let touched = Date.now();

for (const name of ["pointerdown", "keydown", "scroll"]) {
  document.addEventListener(name, () => (touched = Date.now()), { passive: true });
}

function show(alive) {
  for (const sign of document.querySelectorAll("[data-live-sign]")) {
    sign.hidden = false;
    sign.querySelector(".dot")?.classList.toggle("ok", alive);
    sign.querySelector("[data-live-text]").textContent = alive
      ? "live"
      : `not live since ${lastSeen.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}, reload`;
  }
}

function apply(found) {
  for (const [topic, version] of Object.entries(found)) {
    const before = versions.get(topic);
    versions.set(topic, version);
    for (const element of document.querySelectorAll(`[data-live="${CSS.escape(topic)}"]`)) {
      // Before the first poll, what the page was made from.
      if ((before ?? element.dataset.liveAt ?? version) !== version) window.htmx?.trigger(element, "kv:changed");
    }
  }
}

async function poll() {
  const answer = await fetch(`/live/?t=${topics().map(encodeURIComponent).join(",")}`, {
    headers: { Accept: "application/json" },
    redirect: "error",
  });
  if (!answer.ok) throw new Error(String(answer.status));
  apply(await answer.json());
}

async function turn() {
  if (!document.hidden && topics().length) {
    try {
      await poll();
      failures = 0;
      lastSeen = new Date();
      show(true);
    } catch {
      failures += 1;
      if (failures >= 2) show(false);
    }
  }
  const calm = Date.now() - touched > 60000 ? IDLE : EVERY;
  setTimeout(turn, Math.min(calm * 2 ** failures, 120000) * (0.8 + Math.random() * 0.4));
}

if (topics().length) turn();
