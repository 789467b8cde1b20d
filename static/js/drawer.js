// A drawer beside a list: Escape closes it and gives the focus back to the row that opened it.
let opener = null;

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.target?.matches?.("[data-drawer]")) opener = event.detail.elt;
});
document.addEventListener("htmx:afterSwap", (event) => {
  const drawer = document.querySelector("[data-drawer] .drawer");
  if (!drawer || !event.detail.target.matches?.("[data-drawer]")) return;
  for (const row of document.querySelectorAll("tr[aria-selected]")) row.removeAttribute("aria-selected");
  opener?.closest("tr")?.setAttribute("aria-selected", "true");
  drawer.querySelector("h2")?.focus();
});

function close() {
  const holder = document.querySelector("[data-drawer]");
  if (!holder?.firstElementChild) return;
  holder.replaceChildren();
  document.querySelector("tr[aria-selected]")?.removeAttribute("aria-selected");
  opener?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) close();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-drawer-close]");
  if (!button || !document.querySelector("[data-drawer]")) return;
  event.preventDefault();
  close();
});
