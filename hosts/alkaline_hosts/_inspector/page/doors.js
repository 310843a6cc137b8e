// The doors to runs: a file, a database of this browser, a server.
import { button, fill, h, oneLine } from "./dom.js";
import { databases } from "./sources.js";

/** The cards in `place`, and dropping a file anywhere. `open` has `file`, `database` and `server`. */
export class Doors {
  constructor(place, open) {
    this.open = open;
    this.file = h("input", {
      type: "file",
      id: "file",
      class: "unseen",
      tabindex: "-1",
      "aria-label": "A file to open",
      onchange: () => this.chosen(this.file.files[0]),
    });
    this.here = h("ul", { class: "databases" });
    this.url = h("input", {
      name: "url",
      type: "url",
      required: true,
      placeholder: "https://agents.example",
      autocomplete: "url",
      spellcheck: "false",
    });
    this.token = h("input", {
      name: "token",
      type: "password",
      placeholder: "bearer token, if it wants one",
      autocomplete: "off",
    });
    const ask = h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          this.open.server(this.url.value, this.token.value);
        },
      },
      h("label", { class: "field" }, h("span", {}, "Address"), this.url),
      h("label", { class: "field" }, h("span", {}, "Token"), this.token),
      h("button", { type: "submit" }, "Ask it"),
    );
    fill(
      place,
      h("h2", { class: "huge" }, "Look at durable runs"),
      h("p", { class: "lead" }, "Nothing leaves this page: files are read and verified in it."),
      h(
        "div",
        { class: "cards" },
        h(
          "section",
          { class: "card drop" },
          h("h3", {}, "A file"),
          h(
            "p",
            {},
            "Drop an ",
            h("code", {}, ".alkaline"),
            " store or an ",
            h("code", {}, ".alk"),
            " bundle anywhere, or",
          ),
          button("Choose a file…", () => this.file.click(), { class: "primary" }),
          this.file,
        ),
        h(
          "section",
          { class: "card" },
          h("h3", {}, "This browser"),
          h("p", {}, "Runs that pages of this origin keep in IndexedDB."),
          this.here,
        ),
        h("section", { class: "card" }, h("h3", {}, "A server or Worker"), ask),
      ),
    );
    this.lookHere();
    this.listen();
  }

  chosen(file) {
    if (file) this.open.file(file);
    this.file.value = "";
  }

  async lookHere() {
    const names = await databases();
    fill(
      this.here,
      names.length
        ? names.map((name) =>
            h(
              "li",
              {},
              button(oneLine(name), () => this.open.database(name), { class: "link" }),
            ),
          )
        : h("li", { class: "quiet" }, "There are none here."),
    );
  }

  listen() {
    const over = (on) => document.body.classList.toggle("dropping", on);
    window.addEventListener("dragover", (event) => (event.preventDefault(), over(true)));
    window.addEventListener("dragleave", (event) => event.relatedTarget === null && over(false));
    window.addEventListener("drop", (event) => {
      event.preventDefault();
      over(false);
      if (event.dataTransfer.files[0]) this.open.file(event.dataTransfer.files[0]);
    });
  }
}
