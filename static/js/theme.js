// The chosen theme, set before the first paint. Without a choice the system's theme holds.
{
  const root = document.documentElement;
  const chosen = () => {
    try {
      return localStorage.getItem("kv-theme");
    } catch {
      return null;
    }
  };
  const theme = chosen();
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-switch]")) return;
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const next = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
    root.dataset.theme = next;
    try {
      localStorage.setItem("kv-theme", next);
    } catch {
      // Storage may be off; the choice then lasts for this page.
    }
  });
}
