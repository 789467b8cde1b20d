// Single keys select or open and never commit. They are dead in fields and with a modifier,
// and can be turned off (WCAG 2.1.4) on the account page.
const off = () => {
  try {
    return localStorage.getItem("kv-keys") === "off";
  } catch {
    return false;
  }
};
// Only where the navigation leads this person: the page of a missing right is no shortcut.
const GO = { o: "/", a: "/approvals/", k: "/keys/", u: "/audit/", m: "/requests/", s: "/system/" };
const leads = (href) => document.querySelector(`.rail a[href="${href}"]`);
const rows = () => [...document.querySelectorAll("main .grid tbody a, main .work a.t")];
let went = 0;

function move(step) {
  const all = rows();
  const at = all.indexOf(document.activeElement);
  all[Math.min(Math.max(at + step, 0), all.length - 1)]?.focus();
}

function choose(key) {
  const input = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (!input) return false;
  input.focus();
  if (input.type === "radio") input.checked = true;
  else if (input.tagName === "A") input.click();
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey || off()) return;
  if (event.target.closest("input:not([type=radio]), textarea, select, dialog, [contenteditable]")) return;
  const key = event.key;
  if (Date.now() - went < 1000) {
    went = 0;
    if (GO[key] && leads(GO[key])) location.assign(GO[key]);
    return;
  }
  if (key === "g") went = Date.now();
  // On a request page the arrows beside its place in the queue are what J and K mean.
  else if (key === "j") choose("j") || move(1);
  else if (key === "k") choose("k") || move(-1);
  else if (key === "/") {
    const query = document.querySelector("main .query input, main input[type=search]");
    if (!query) return;
    event.preventDefault();
    query.focus();
  } else if (choose(key.toLowerCase())) event.preventDefault();
});
