// What the page shows and asks for. The agent itself is agent.py, in a Web Worker, or in this page with ?in=page.
const at = (id) => document.getElementById(id);
const make = (tag, text, className = "") => Object.assign(document.createElement(tag), { textContent: text, className });
const asked = new URL(location).searchParams;
const here = new URL("./", location).href;
const dist = new URL(asked.get("dist") ?? "../../wasm/dist/", location).href;
const inPage = asked.get("in") === "page";
const WORDS = {
  running: "Working", asks: "Waits for you", paused: "Paused",
  completed: "Finished", failed: "Failed", cancelled: "Stopped", offline: "Waits for the network",
};
const MARKS = { done: "✓", failed: "✕", again: "↻", spent: "¤", person: "●", resumed: "▶" };
const ENDED = ["completed", "failed", "cancelled"];
let worker = null;
let ask = null;
let shown = null; // the newest state
let drafts = 0; // how many decisions there have been, which names the draft on the table

// --- the engine -----------------------------------------------------------------------------------------------------
const startIn = {
  page: async () => (await import("./engine.js")).startEngine({ dist, here, say, tell: show }),
  worker: () =>
    new Promise((done) => {
      const address = new URL("worker.js", here);
      address.search = new URLSearchParams({ dist, here });
      worker = new Worker(address, { type: "module" });
      const waiting = new Map();
      let last = 0;
      worker.onerror = (event) => trouble(event.message || "The Web Worker could not be started. Is worker.js there?");
      worker.onmessage = ({ data }) => {
        if (data.say) say(data.say);
        else if (data.state) show(data.state);
        else if (data.broken) trouble(data.broken);
        else {
          const { resolve, reject } = waiting.get(data.number);
          waiting.delete(data.number);
          if (data.error) reject(new Error(data.error));
          else resolve(data.value);
        }
      };
      done((verb, ...values) =>
        new Promise((resolve, reject) => {
          waiting.set(++last, { resolve, reject });
          worker.postMessage({ number: last, verb, values });
        }));
    }),
};

async function start(beginAnew = false) {
  at("trouble").hidden = true;
  worker?.terminate(); // the one before, if there was one
  if (inPage) await ask?.("close").catch(() => {});
  try {
    ask = await startIn[inPage ? "page" : "worker"]();
    await ask("open", beginAnew);
  } catch (error) {
    trouble(error);
  }
}

// What went wrong, in the last line of what Python or JavaScript said, and what helps.
function trouble(error) {
  const text = `${error?.message ?? error}`.trim().split("\n").at(-1).replace(/^(PythonError: )?[\w.]+Error: /, "");
  at("trouble-text").textContent = text;
  at("begin-anew").hidden = !/is gone/.test(text);
  at("trouble").hidden = false;
  say("");
  if (!at("run").hidden && at("status").dataset.status === "running") showStatus("Held up", "failed");
}

async function doing(...what) {
  at("trouble").hidden = true;
  try {
    return await ask(...what);
  } catch (error) {
    trouble(error);
  }
}

// --- what is seen ---------------------------------------------------------------------------------------------------
function say(text) {
  at("engine").textContent = text;
}

function show(text) {
  const state = JSON.parse(text);
  if (!("run" in state)) return trouble(state.trouble);
  if (shown?.trouble) at("trouble").hidden = true; // it has passed, or is said again below
  shown = state;
  say(inPage ? "Python runs in this page." : "Python runs in a Web Worker.");
  at("kept").textContent =
    state.persisted === true ? "The browser promised to keep this site's data."
    : state.persisted === false ? "The browser may clear this site's data when space runs short."
    : "";
  const run = state.run;
  const active = run && !ENDED.includes(run.status);
  at("ask").hidden = Boolean(active) || (state.others ?? []).some((one) => !ENDED.includes(one.status));
  at("run").hidden = at("bar").hidden = !run;
  at("crash").hidden = inPage || !active;
  if (run) showRun(run, state.budget);
  showOthers(state.others ?? []);
  if (state.trouble) trouble(state.trouble);
}

function showStatus(text, kind) {
  if (at("status").textContent !== text) at("status").textContent = text; // a live region: only what is new
  at("status").dataset.status = kind;
}

function showRun(run, budget) {
  at("topic-shown").textContent = run.topic;
  const working = run.status === "running" || run.status === "suspended"; // a short rest is work
  const status = run.asks ? "asks" : !working ? run.status : run.now && !navigator.onLine ? "offline" : "running";
  showStatus(WORDS[status], status);
  at("run-id").textContent = run.id;
  at("steps").textContent = run.steps;
  at("steps-ran").textContent = run.ran;
  at("steps-kept").textContent = run.kept;
  at("tokens").textContent = `${run.tokens.toLocaleString("en")} of ${budget.toLocaleString("en")}`;
  at("meter").value = run.tokens;
  at("meter").max = budget;
  at("failure").textContent = run.failure ?? "";
  drafts = run.timeline.filter((line) => line.kind === "person").length;
  showTimeline(run);
  at("now").hidden = !run.now;
  at("now").textContent = run.now ?? "";
  const sentences = run.result?.report ?? run.draft;
  at("draft").hidden = !sentences || !(run.asks || run.result);
  at("decide").hidden = !run.asks;
  at("draft-title").textContent = run.result ? "The report" : "A draft for you to decide on";
  if (sentences) at("sentences").replaceChildren(...sections(sentences));
}

function sections(sentences) {
  const pages = Map.groupBy ? Map.groupBy(sentences, (one) => one.from) : groups(sentences);
  return [...pages].map(([title, found]) => {
    const part = make("section", "");
    part.append(make("p", found.map((one) => one.text).join(" ")), make("cite", title));
    return part;
  });
}

function groups(sentences) {
  const pages = new Map();
  for (const one of sentences) pages.set(one.from, [...(pages.get(one.from) ?? []), one]);
  return pages;
}

// Lines are added, not made anew: a reader's place, and a screen reader's, stay.
function showTimeline(run) {
  const list = at("timeline");
  const name = `${run.id} ${run.created}`; // after "Start anew" the same id is another run
  if (list.dataset.run !== name) {
    list.replaceChildren();
    list.dataset.run = name;
  }
  const follows = list.scrollTop + list.clientHeight > list.scrollHeight - 40; // unless a reader has scrolled up
  for (const [number, line] of run.timeline.entries()) {
    const key = `${line.kind} ${line.at} ${line.text}`;
    if (list.children[number]?.dataset.key === key) continue;
    while (list.children.length > number) list.lastChild.remove(); // where it was resumed is known a moment later
    const item = make("li", "", line.kind);
    item.dataset.key = key;
    const mark = make("span", MARKS[line.kind], "mark");
    mark.setAttribute("aria-hidden", "true");
    const when = make("time", new Date(line.at).toLocaleTimeString());
    when.dateTime = new Date(line.at).toISOString();
    item.append(mark, make("span", line.text, "what"), when);
    list.append(item);
  }
  if (follows) list.scrollTop = list.scrollHeight;
}

// The other runs of this browser: one press shows one of them.
function showOthers(others) {
  const key = JSON.stringify(others);
  if (at("others").dataset.key === key) return; // a button that has the focus keeps it
  at("others").dataset.key = key;
  at("others").hidden = !others.length;
  at("others-list").replaceChildren(...others.map((one) => {
    const button = make("button", one.topic || one.id, "quiet");
    button.dataset.id = one.id;
    button.append(make("span", `${WORDS[one.status] ?? "Working"}, ${new Date(one.created).toLocaleString()}`, "small"));
    button.addEventListener("click", async () => {
      await doing("look", one.id);
      at("status").focus();
    });
    const item = make("li", "");
    item.append(button);
    return item;
  }));
}

for (const change of ["online", "offline"]) {
  addEventListener(change, () => shown?.run && showRun(shown.run, shown.budget));
}

// --- what is asked --------------------------------------------------------------------------------------------------
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const topic = at("topic").value.trim();
  if (topic && ask) doing("start", topic);
});
for (const button of document.querySelectorAll("[data-want]")) {
  button.addEventListener("click", () => {
    const want = button.dataset.want;
    doing("decide", shown.run.id, want === "approve", want, drafts);
    at("status").focus();
  });
}
at("download").addEventListener("click", async () => {
  const { id } = shown.run;
  const content = await doing("export", id);
  if (!content) return;
  const address = URL.createObjectURL(new Blob([content], { type: "application/octet-stream" }));
  Object.assign(document.createElement("a"), { href: address, download: `${id}.alk` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
});
at("crash").addEventListener("click", () => {
  worker.terminate();
  say("The worker was ended in the middle of its work. Starting another one …");
  start();
});
at("clear").addEventListener("click", () => {
  if (confirm("Delete this run and all others from this browser?")) doing("clear");
});
at("begin-anew").addEventListener("click", () => start(true));
at("again").addEventListener("click", () => location.reload());
// A page that is left in good order hands its run back; one that is killed can't, and its lease runs out.
addEventListener("pagehide", (event) => {
  if (!event.persisted && ask) ask("close").catch(() => {});
});

start();
