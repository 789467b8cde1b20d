// Ctrl/Cmd K: a dialog over server search. A result opens its page; nothing runs from here.
const palette = document.getElementById("palette");
const input = palette?.querySelector("input");
const options = () => [...palette.querySelectorAll("[role=option]")];

function select(next) {
  for (const option of options()) option.setAttribute("aria-selected", String(option === next));
  if (!next) return input.removeAttribute("aria-activedescendant");
  input.setAttribute("aria-activedescendant", next.id);
  next.scrollIntoView({ block: "nearest" });
}

function open() {
  if (!palette || palette.open) return;
  palette.showModal();
  input.select();
  window.htmx?.trigger(input, "palette:open");
}

function step(by) {
  const all = options();
  const at = all.findIndex((option) => option.getAttribute("aria-selected") === "true");
  select(all[(at + by + all.length) % all.length]);
}

document.addEventListener("keydown", (event) => {
  if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k" && palette) {
    event.preventDefault();
    open();
  }
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-palette]")) open();
  else if (event.target === palette) palette.close();
});
palette?.addEventListener("keydown", (event) => {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (by) {
    event.preventDefault();
    step(by);
  } else if (event.key === "Enter") {
    const chosen = palette.querySelector("[aria-selected=true]");
    if (!chosen) return;
    event.preventDefault();
    location.assign(chosen.href);
  }
});
palette?.addEventListener("htmx:afterSwap", () => select(options()[0]));
