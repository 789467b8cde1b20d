// <kv-copy data-copy="…"> or <kv-copy for="id">: adds a button that copies the raw value.
import { say } from "./say.js";

class Copy extends HTMLElement {
  connectedCallback() {
    if (this.querySelector("button") || !navigator.clipboard) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn quiet sm";
    button.textContent = this.getAttribute("label") ?? "Copy";
    button.addEventListener("click", () => this.copy(button));
    this.append(button);
  }

  async copy(button) {
    const source = document.getElementById(this.getAttribute("for"));
    const word = button.textContent;
    try {
      await navigator.clipboard.writeText(this.dataset.copy ?? source?.dataset.raw ?? source?.textContent ?? "");
      button.textContent = "Copied";
      say("Copied");
    } catch {
      button.textContent = "Not copied";
      say("The browser refused to copy. Select the text instead.");
    }
    setTimeout(() => {
      button.textContent = word;
    }, 2000);
  }
}

customElements.define("kv-copy", Copy);
