// The page: doors to runs, the list of them, and the one that is looked at.
import { Doors } from "./doors.js";
import { announce, bytesOf, button, fill, h, oneLine, sentence } from "./dom.js";
import { howMany, othersView } from "./others.js";
import { RunView } from "./run.js";
import { RunsPane } from "./runs.js";
import { ServerSource, browserSource, fileSource } from "./sources.js";
import { themes } from "./theme.js";

const $ = (id) => document.getElementById(id);

class Page {
  constructor() {
    this.source = null;
    this.opening = 0;
    this.runs = new RunsPane(
      $("runs"),
      (id) => this.go(id),
      () => this.go(null, true),
    );
    this.run = new RunView({
      records: () => this.runs.records,
      go: (id) => this.go(id),
      changed: (id) => this.asked(id),
      historyOf: async (id) => (await this.source.run(id)).history,
    });
    fill(
      $("run"),
      this.run.trouble,
      this.run.element,
      h("div", { id: "beside", class: "beside", hidden: true }),
      h("div", { class: "choose", id: "choose" }, h("p", {}, "Choose a run to see what it did.")),
    );
    this.doors = new Doors($("doors"), {
      file: (file) => this.openSource(async () => fileSource(file.name, new Uint8Array(await file.arrayBuffer())), {}),
      database: (name) => this.openSource(() => browserSource(name), { db: name }),
      server: (url, token) => this.openServer(url, token, {}),
    });
    this.listen();
  }

  listen() {
    window.addEventListener("popstate", () => this.routed());
    window.addEventListener("keydown", (event) => {
      if (
        event.key === "/" &&
        !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) &&
        !document.querySelector("dialog[open]")
      ) {
        event.preventDefault();
        (this.run.element.hidden || this.run.tab !== "events" || !narrow()
          ? this.runs.search
          : this.run.events.find
        ).focus();
      }
      if (event.key === "Escape" && !document.querySelector("dialog[open]") && !this.run.detail.hidden)
        this.run.closeDetail();
    });
    $("open").addEventListener("click", () => this.leave());
    $("again").addEventListener("click", () => this.refresh());
    document.addEventListener(
      "visibilitychange",
      () => document.visibilityState === "visible" && this.source?.live && this.refresh(),
    );
  }

  openServer(url, token, about) {
    return this.openSource(() => new ServerSource(url, token, about).begin(), { server: url });
  }

  async openSource(make, where) {
    this.state("Opening…", "", false);
    const opening = ++this.opening;
    try {
      const source = await make();
      if (opening !== this.opening) return source.close();
      this.close();
      this.source = source;
      this.where = where;
      this.runs.clear();
      document.body.dataset.view = "runs";
      document.body.dataset.kind = source.kind;
      $("source").textContent = oneLine(source.title);
      $("source-kind").textContent =
        `· ${{ file: "file", bundle: "bundle", browser: "this browser", server: source.readOnly ? "looking only" : "server" }[source.kind]}`;
      document.title = `${oneLine(source.title)} – alkaline inspector`;
      $("note").textContent = [source.size ? bytesOf(source.size) : "", source.note]
        .filter(Boolean)
        .map((text) => `· ${text}`)
        .join(" ");
      $("again").hidden = !source.live;
      await this.load();
      await this.lookBeside();
      if (opening !== this.opening) return;
      this.routed(source.kind === "bundle" ? this.runs.records[0].id : null);
      this.quiet(null);
      this.tick();
    } catch (error) {
      if (opening === this.opening) this.broken(error);
    }
  }

  close() {
    this.source?.close();
    this.unfollow?.();
    clearTimeout(this.timer);
    this.source = this.unfollow = null;
  }

  leave() {
    this.close();
    this.opening += 1;
    document.title = "alkaline inspector";
    document.body.dataset.view = "doors";
    history.pushState(null, "", location.pathname + location.search);
    this.doors.lookHere();
    $("doors").querySelector("button").focus();
  }

  /** What stands in the page's place while nothing can be shown. */
  state(title, text, back = true) {
    document.body.dataset.view = "state";
    fill(
      $("state"),
      h("h2", { class: "huge" }, title),
      text ? h("p", {}, text) : null,
      back ? button("Open something else", () => this.leave(), { class: "primary" }) : null,
    );
  }

  broken(error) {
    const titles = {
      foreign: "This is not ours",
      damaged: "This is damaged",
      sealed: "This is sealed",
      newer: "A newer alkaline wrote this",
      missing: "It is not there",
      forbidden: "It does not let you in",
      unreachable: "Nothing answers there",
      refused: "It answered with a refusal",
    };
    const advice = {
      sealed: "A sealed store is read with its keys: alkaline inspect STORE --keys FILE --tenant NAME shows it here.",
      damaged:
        "Nothing was changed. Restore it from a backup or an export; alkaline list says how much of a file can be kept.",
      newer: "Upgrade alkaline-edge, and open it with the inspector of that version.",
      forbidden:
        "Give the token that the server was started with (ALKALINE_TOKEN); alkaline inspect prints an address that has it.",
    };
    if (!(error.code in titles)) console.error(error);
    this.state(
      titles[error.code] ?? "It can't be shown",
      [sentence(error.message), advice[error.code] ? h("span", { class: "advice" }, advice[error.code]) : ""].filter(
        Boolean,
      ),
    );
  }

  // --- runs -------------------------------------------------------------------------------------------------------------
  async load() {
    const loading = this.source;
    let found = [];
    await loading.runs((page, whole) => {
      found = found.concat(page);
      if (loading !== this.source) return;
      if (whole || found.length > this.runs.records.length) this.runs.set(found);
    });
  }

  // --- schedules and boards ---------------------------------------------------------------------------------------------
  /** Reads what stands beside the runs; what can't be read is said where it would stand, and hides nothing else. */
  async lookBeside() {
    const { source } = this;
    if (!source.others) {
      this.others = null;
      return this.runs.offer(null);
    }
    const others = await source.others().catch((error) => ({ error }));
    if (source !== this.source) return;
    this.others = others;
    this.runs.offer(others.error ? 0 : howMany(others));
  }

  /** Draws it, with the rows open that were. */
  showBeside() {
    fill($("beside"), this.isBeside ? othersView(this.others, () => this.go(null), () => this.refresh()) : null);
  }

  async refresh() {
    if (!this.source || this.refreshing) return;
    this.refreshing = true;
    try {
      await this.load();
      await this.lookBeside();
      this.showBeside();
      if (this.id) await this.show(this.id, true);
      this.quiet(null);
    } catch (error) {
      this.quiet(error);
    } finally {
      this.refreshing = false;
    }
  }

  /** Says that what is shown may be old; it stays. */
  quiet(error) {
    $("live").textContent = error ? "not live" : "live";
    $("live").className = error ? "live off" : "live on";
    $("live").title = error ? oneLine(error.message) : "";
    $("live").hidden = !this.source?.live;
    $("offline").hidden = !error;
    $("offline").textContent = error ? `What is shown may be old: ${oneLine(error.message)}` : "";
  }

  /** Looks at the list again now and then, as long as this source is shown. */
  tick() {
    const { source } = this;
    if (!source?.live) return;
    this.timer = setTimeout(
      async () => {
        if (document.visibilityState === "visible")
          await this.load().then(
            () => source === this.source && this.quiet(null),
            (error) => source === this.source && this.quiet(error),
          );
        if (source !== this.source) return;
        this.run.age();
        this.tick();
      },
      this.runs.records.length > 2000 ? 30_000 : 4000,
    );
  }

  // --- one run ----------------------------------------------------------------------------------------------------------
  go(id, beside = false) {
    const parameters = new URLSearchParams(this.where);
    if (id) parameters.set("run", id);
    if (beside) parameters.set("beside", "runs");
    history.pushState(null, "", `${location.pathname}${location.search}#${parameters}`);
    this.routed();
  }

  routed(first = null) {
    if (!this.source) return;
    const id = new URLSearchParams(location.hash.slice(1)).get("run") ?? first;
    this.unfollow?.();
    this.unfollow = null;
    this.id = id;
    this.isBeside = !id && Boolean(this.others) && new URLSearchParams(location.hash.slice(1)).has("beside");
    const beside = this.isBeside;
    document.body.dataset.view = id || beside ? "run" : "runs";
    $("choose").hidden = Boolean(id || beside);
    $("beside").hidden = !beside;
    this.showBeside();
    this.runs.chosen = id;
    this.runs.mark();
    if (!id) {
      this.run.element.hidden = this.run.trouble.hidden = true;
      this.run.record = null;
      return;
    }
    this.show(id).then(() => {
      if (narrow()) this.run.title.focus();
    });
    this.follow(id);
  }

  async show(id, again = false) {
    const { source } = this;
    const began = performance.now();
    try {
      const found = await source.run(id);
      if (source !== this.source || id !== this.id) return;
      this.run.show(source, found);
      if (again && this.runs.update(id, found.record)) announce(`${id} is ${found.record.status}`);
    } catch (error) {
      if (source !== this.source || id !== this.id) return;
      if (again && this.run.record) return this.quiet(error);
      this.run.fail(id, error);
    } finally {
      this.cost = performance.now() - began;
    }
  }

  /** Looks again when something happened, and no more often than it takes. */
  follow(id) {
    let waiting = null;
    const changed = () => {
      waiting ??= setTimeout(
        async () => {
          waiting = null;
          if (this.id === id) await this.show(id, true);
        },
        Math.max(200, 4 * (this.cost ?? 0)),
      );
    };
    const stop = this.source.follow(id, changed, (error) => this.quiet(error));
    this.unfollow = () => {
      clearTimeout(waiting);
      stop();
    };
  }

  async asked(made) {
    await this.refresh();
    if (made && made !== this.id) this.go(made);
  }
}

const narrow = () => matchMedia("(max-width: 760px)").matches;

/** A token comes in the part of the address that no server sees, and is taken out of it at once. */
function tokenOf(parameters) {
  const given = parameters.get("token");
  if (given) {
    parameters.delete("token");
    history.replaceState(null, "", `${location.pathname}${location.search}#${parameters}`);
  }
  try {
    if (given) sessionStorage.setItem("alkaline inspector token", given);
    return given ?? sessionStorage.getItem("alkaline inspector token") ?? "";
  } catch {
    return given ?? "";
  }
}

async function begin() {
  themes();
  const parameters = new URLSearchParams(location.hash.slice(1));
  const token = tokenOf(parameters);
  const page = new Page();
  document.body.dataset.view = "doors";
  if (parameters.get("db"))
    return page.openSource(() => browserSource(parameters.get("db")), { db: parameters.get("db") });
  const about = /^https?:$/.test(location.protocol)
    ? await fetch("inspector.json", { cache: "no-store" })
        .then(
          (response) => (response.ok ? response.json() : null),
          () => null,
        )
        .catch(() => null)
    : null;
  if (!about?.inspector) return null;
  const base = location.href.replace(/[?#].*$/, "").replace(/\/[^/]*$/, "");
  page.doors.url.value = base;
  if (about.token && !token) return null;
  return page.openServer(base, token, { readOnly: about.read_only, title: parameters.get("store") ?? "" });
}

begin();
