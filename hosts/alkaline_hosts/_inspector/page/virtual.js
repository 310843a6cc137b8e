// A list of which only what can be seen is there: ten thousand rows scroll as ten do.
import { fill, h } from "./dom.js";

let lists = 0;

/**
 * A listbox with rows of one height. `render(item, n)` gives what stands in a row; `chosen(item, n)` is told when one is
 * chosen by click, Enter or Space, and with `follows`, also when the arrows come to it.
 */
export class VirtualList {
  constructor({
    label,
    height,
    render,
    chosen = () => {},
    follows = true,
    head = null,
    className = "",
    empty = "Nothing here.",
  }) {
    Object.assign(this, {
      height,
      render,
      chosen,
      follows,
      empty,
      items: [],
      at: -1,
      picked: -1,
      name: `list${++lists}`,
    });
    this.rows = h("div", { class: "rows", role: "presentation" });
    this.nothing = h("p", { class: "nothing", hidden: true });
    this.box = h(
      "div",
      {
        class: `virtual ${className}`,
        role: "listbox",
        tabindex: "0",
        "aria-label": label,
        onscroll: () => this.soon(),
        onkeydown: (event) => this.key(event),
        onclick: (event) => this.click(event),
      },
      head,
      this.rows,
    );
    this.element = h("div", { class: "virtual-frame" }, this.box, this.nothing);
    this.headHeight = 0;
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /** Shows `items`; the one that was chosen stays so where `same` finds it again. */
  set(items, same = (item, before) => item === before) {
    const before = this.items[this.picked];
    this.items = items;
    this.picked = before === undefined ? -1 : items.findIndex((item) => same(item, before));
    this.at = Math.min(this.picked >= 0 ? this.picked : this.at, items.length - 1);
    this.nothing.hidden = items.length > 0;
    this.box.hidden = items.length === 0;
    this.nothing.textContent = typeof this.empty === "function" ? this.empty() : this.empty;
    this.draw();
  }

  pick(n, tell = true) {
    this.at = this.picked = n;
    this.reveal(n);
    this.draw();
    if (tell && this.items[n] !== undefined) this.chosen(this.items[n], n);
  }

  reveal(n) {
    const { box } = this;
    const [top, bottom] = [n * this.height, (n + 1) * this.height];
    const room = box.clientHeight - this.headHeight;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (bottom > box.scrollTop + room) box.scrollTop = bottom - room;
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.height) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in moves && !event.ctrlKey && !event.metaKey && this.items.length) {
      event.preventDefault();
      const n = Math.max(
        0,
        Math.min(this.items.length - 1, this.at < 0 && moves[event.key] > 0 ? 0 : this.at + moves[event.key]),
      );
      if (this.follows) this.pick(n);
      else {
        this.at = n;
        this.reveal(n);
        this.draw();
      }
    } else if ((event.key === "Enter" || event.key === " ") && this.at >= 0) {
      event.preventDefault();
      this.pick(this.at);
    }
  }

  /** A row that is drawn anew between press and release is no target any more: then it is told by where that was. */
  click(event) {
    const row = event.target.closest("[data-n]");
    if (row) return this.pick(Number(row.dataset.n));
    const n = Math.floor((event.clientY - this.rows.getBoundingClientRect().top) / this.height);
    const inside = event.clientY > this.box.getBoundingClientRect().top + this.headHeight;
    return inside && n >= 0 && n < this.items.length && this.pick(n);
  }

  soon() {
    this.asked ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.asked);
    this.asked = null;
    const { box, height, items } = this;
    this.rows.style.setProperty("height", `${items.length * height}px`);
    if (!box.clientHeight) return;
    const first = Math.max(0, Math.floor(box.scrollTop / height) - 6);
    const last = Math.min(items.length, Math.ceil((box.scrollTop + box.clientHeight) / height) + 6);
    const rows = [];
    for (let n = first; n < last; n++) {
      rows.push(
        h(
          "div",
          {
            class: `row${n === this.at ? " at" : ""}`,
            role: "option",
            id: `${this.name}-${n}`,
            "data-n": n,
            "aria-selected": n === this.picked ? "true" : "false",
            "aria-posinset": n + 1,
            "aria-setsize": items.length,
            style: { transform: `translateY(${n * height}px)`, height: `${height}px` },
          },
          this.render(items[n], n),
        ),
      );
    }
    fill(this.rows, rows);
    if (this.at >= first && this.at < last) box.setAttribute("aria-activedescendant", `${this.name}-${this.at}`);
    else box.removeAttribute("aria-activedescendant");
    this.drawn?.();
  }
}
