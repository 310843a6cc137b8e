// Light, dark, or as the system has it.
const themeButton = () => document.getElementById("theme");

/** Shows what was chosen last, and the next at each press. */
export function themes() {
  const kept = (value) => {
    try {
      return value === undefined
        ? localStorage.getItem("alkaline inspector theme")
        : localStorage.setItem("alkaline inspector theme", value);
    } catch {
      return null; // a page without an origin of its own keeps nothing
    }
  };
  const choices = ["auto", "light", "dark"];
  const set = (name) => {
    document.documentElement.dataset.theme = name;
    themeButton().textContent = { auto: "Auto theme", light: "Light", dark: "Dark" }[name];
  };
  set(choices.includes(kept()) ? kept() : "auto");
  themeButton().addEventListener("click", () => {
    const next = choices[(choices.indexOf(document.documentElement.dataset.theme) + 1) % 3];
    set(next);
    kept(next);
  });
}
