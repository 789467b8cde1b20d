// One press, one request: a form's button says that it works and refuses a second press.
// Errors take the focus: a summary after a page load, a fragment's heading after a swap.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
  const button = event.submitter;
  // A disabled button would drop its own name and value from the request.
  button?.setAttribute("aria-disabled", "true");
  if (button?.dataset.busy) button.textContent = button.dataset.busy;
});

// A page restored by the back button must be usable again.
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    form.querySelector("[aria-disabled]")?.removeAttribute("aria-disabled");
  }
});

const focusFirst = (root) => root.querySelector?.("[data-focus]")?.focus();
focusFirst(document);
document.addEventListener("htmx:afterSwap", (event) => focusFirst(event.detail.target.parentElement ?? document));
document.addEventListener("htmx:afterRequest", (event) => {
  delete event.detail.elt.closest?.("form")?.dataset.sent;
});
