// The reveal page: the value leaves the page after its time, when the tab is hidden, and before
// the browser could keep the page for its back button.
const holder = document.querySelector("[data-reveal]");

function clear(reason) {
  if (!holder || holder.dataset.cleared) return;
  holder.dataset.cleared = "1";
  const note = document.createElement("p");
  note.className = "note";
  note.textContent = reason;
  holder.replaceChildren(note);
}

if (holder) {
  holder.addEventListener("kv:done", () => clear("The time is over. The value is gone from this page."));
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clear("You left this tab. The value is gone from this page.");
  });
  window.addEventListener("pagehide", () => clear("The value is gone from this page."));
}
