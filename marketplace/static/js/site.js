// Every page: theme switch, copy buttons, tabs, menus that close, forms that send themselves.

const root = document.documentElement;

function applyTheme(theme) {
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", theme);
  } catch { /* Storage is off: the choice lasts as long as the page. */ }
}

for (const select of document.querySelectorAll("[data-theme-select]")) {
  select.value = root.dataset.theme ?? "system";
  select.addEventListener("change", () => applyTheme(select.value));
}

for (const form of document.querySelectorAll("form[data-submit-on-change]")) {
  form.addEventListener("change", () => form.requestSubmit());
}

// On a phone the navigation scrolls sideways: show where we are.
const here = document.querySelector(".nav [aria-current]");
if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.clientWidth / 2 + here.offsetWidth / 2;

async function copyText(text) {
  if (navigator.clipboard?.writeText) return navigator.clipboard.writeText(text);
  // Plain http on another host has no clipboard API: select the text and let the browser copy.
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const label = button.querySelector("[data-copy-label]");
  const before = label.textContent;
  await copyText(document.getElementById(button.dataset.copy).textContent.trim());
  label.textContent = button.dataset.done;
  setTimeout(() => { label.textContent = before; }, 1600);
});

// Tabs as in the WAI-ARIA pattern: arrows move, the chosen language is remembered.
function choose(tab, { focus = false } = {}) {
  const list = tab.closest("[role=tablist]");
  for (const other of list.querySelectorAll("[role=tab]")) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (focus) tab.focus();
}

function rememberedTab() {
  try { return localStorage.getItem("snippet"); } catch { return null; }
}

for (const list of document.querySelectorAll("[role=tablist]")) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  choose(tabs.find((tab) => tab.dataset.name === rememberedTab()) ?? tabs[0]);
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (!tab) return;
    choose(tab);
    try { localStorage.setItem("snippet", tab.dataset.name); } catch { /* As above. */ }
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const index = tabs.indexOf(document.activeElement);
    choose(tabs[(index + step + tabs.length) % tabs.length], { focus: true });
    event.preventDefault();
  });
}

for (const menu of document.querySelectorAll("details.menu")) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
}

// A chart says the value under the pointer beside its title; the table below has them all.
document.addEventListener("pointerover", (event) => {
  const slot = event.target.closest?.("[data-says]");
  if (slot) document.getElementById(slot.closest("[data-readout]").dataset.readout).textContent = slot.dataset.says;
});
document.addEventListener("pointerout", (event) => {
  const slot = event.target.closest?.("[data-says]");
  if (slot) document.getElementById(slot.closest("[data-readout]").dataset.readout).textContent = "";
});

for (const button of document.querySelectorAll("[data-print]")) {
  button.addEventListener("click", () => window.print());
}
