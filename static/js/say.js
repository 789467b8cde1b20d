// Announces one sentence to screen readers.
export function say(sentence) {
  const live = document.getElementById("live");
  if (!live) return;
  live.textContent = "";
  requestAnimationFrame(() => {
    live.textContent = sentence;
  });
}
