"""The page: starts runs, shows the timeline of one, and decides. No build step, no library."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>worker-agent</title>
<link rel="icon" href="data:,">
<style>
  :root { color-scheme: light dark; --line: #d5d9df; --soft: #f5f6f8; --dim: #5c6470; --ink: #1b1f24; --page: #fff;
          --accent: #1a56c4; --good: #14733b; --wait: #8a5300; --bad: #a3261f; }
  @media (prefers-color-scheme: dark) {
    :root { --line: #3a4048; --soft: #22262c; --dim: #a2abb8; --ink: #e8ebef; --page: #181b1f;
            --accent: #84aefc; --good: #6fd196; --wait: #f0b860; --bad: #f49a94; } }
  * { box-sizing: border-box; }
  body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0; }
  main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; display: grid; gap: 2rem;
         grid-template-columns: minmax(0, 20rem) minmax(0, 1fr); }
  header { grid-column: 1 / -1; } h1 { font-size: 1.5rem; margin: 0; } header p { margin: 0; color: var(--dim); }
  h2 { font-size: 1.05rem; margin: 0 0 .5rem; } section + section { margin-top: 2rem; }
  label { display: block; font-size: .875rem; color: var(--dim); margin-bottom: .75rem; }
  input, textarea { display: block; width: 100%; font: inherit; color: inherit; background: var(--page);
                    border: 1px solid var(--line); border-radius: 6px; padding: .5rem .6rem; margin-top: .2rem; }
  button { font: inherit; font-weight: 600; min-height: 2.75rem; padding: 0 1.1rem; border-radius: 6px;
           border: 1px solid var(--accent); background: var(--accent); color: var(--page); cursor: pointer; }
  button.second { background: none; color: var(--accent); } button:disabled { opacity: .5; cursor: default; }
  :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  a { color: var(--accent); overflow-wrap: anywhere; }
  ul, ol { list-style: none; margin: 0; padding: 0; }
  #runs li { display: flex; justify-content: space-between; gap: .75rem; padding: .45rem 0; }
  #runs li + li { border-top: 1px solid var(--line); }
  .tag { font-size: .8125rem; font-weight: 600; white-space: nowrap; color: var(--dim); }
  .completed { color: var(--good); } .suspended, .running { color: var(--wait); } .failed { color: var(--bad); }
  #run > h2 { display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: baseline; overflow-wrap: anywhere; }
  #decide { background: var(--soft); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin: 1rem 0; }
  #decide ul { list-style: disc; padding-left: 1.2rem; margin: .25rem 0 1rem; overflow-wrap: anywhere; }
  .row { display: flex; flex-wrap: wrap; gap: .6rem; }
  #timeline { margin-top: 1rem; border-left: 2px solid var(--line); padding-left: 1rem; }
  #timeline li { padding: .3rem 0; display: flex; flex-wrap: wrap; gap: 0 .75rem; justify-content: space-between; }
  time { color: var(--dim); font-size: .8125rem; font-variant-numeric: tabular-nums; }
  .dim { color: var(--dim); } [hidden] { display: none !important; }
  @media (max-width: 44rem) {
    main { grid-template-columns: minmax(0, 1fr); } #run { order: -1; } header { order: -2; } }
</style>
<main>
  <header><h1>worker-agent</h1><p>Drafts a page from your notes, waits for a decision, publishes.</p></header>
  <div>
    <section>
      <h2>New page</h2>
      <form id="start">
        <label>Topic <input name="topic" required maxlength="200" autocomplete="off"></label>
        <label>Notes, one a line <textarea name="notes" rows="5"></textarea></label>
        <button>Draft it</button>
      </form>
    </section>
    <section><h2>Runs</h2><ul id="runs"></ul><p id="none" class="dim" hidden>None yet.</p></section>
  </div>
  <section id="run" hidden>
    <h2><span id="name"></span><span id="status" class="tag" role="status"></span></h2>
    <p id="said" class="dim"></p>
    <div id="decide" hidden>
      <h2 id="title"></h2><ul id="points"></ul>
      <label>Approval key, if one is set <input id="key" type="password" autocomplete="off"></label>
      <div class="row"><button data-approved="true">Approve</button>
        <button class="second" data-approved="false">Reject</button></div>
      <p id="refused" class="failed" role="alert" hidden></p>
    </div>
    <ol id="timeline" aria-label="Timeline"></ol>
  </section>
</main>
<script>
const at = (id) => document.getElementById(id);
const make = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);
const get = async (path) => (await fetch(path)).json();
const WORDS = {
  Started: () => "Started",
  StepCompleted: ({ name }) => `Step ${name} is done`,
  StepFailed: ({ name }) => `Step ${name} failed`,
  AttemptFailed: ({ name, attempt }) => `Step ${name}: attempt ${attempt} failed`,
  Spent: ({ tokens, label }) => `${tokens} tokens spent: ${label}`,
  SignalReceived: ({ name }) => `Received the ${name}`,
  TimerFired: () => "Time is up",
  Completed: () => "Finished",
  Failed: () => "Failed",
  Cancelled: () => "Cancelled",
};  // what is not here, such as a clock that was read, is not shown
const titleOf = (run) => run.attributes?.topic ?? run.id;
let chosen = "", drafted = "";

async function showRuns() {
  const { runs } = await get("/runs?workflow=publish&limit=20");
  at("none").hidden = runs.length > 0;
  at("runs").replaceChildren(...runs.map((run) => {
    const item = make("li", "");
    item.append(make("a", titleOf(run), { href: "#" + encodeURIComponent(run.id) }));
    item.append(make("span", waits(run) ? "to decide" : run.status, { className: "tag " + run.status }));
    return item;
  }));
}

const waits = (run) => Boolean(run.waiting?.includes("signal decision"));

async function showRun() {
  const id = chosen, path = "/runs/" + encodeURIComponent(id);
  at("run").hidden = !id;
  if (!id) return;
  const [run, events] = await Promise.all([get(path), get(path + "/events")]);
  if (id !== chosen) return;
  at("name").textContent = run.error ? id : titleOf(run);
  at("status").textContent = run.error ? "unknown" : waits(run) ? "waiting for your decision" : run.status;
  at("status").className = "tag " + run.status;
  const said = run.error?.message ?? run.failure?.message ?? "";
  at("said").replaceChildren(said);
  if (run.result?.published) {
    at("said").append("Published at ", make("a", run.result.published, { href: run.result.published }),
      ` (${run.result.by}).`);
  } else if (run.result) at("said").append(`Not published (${run.result.by}).`);
  if (waits(run) && drafted !== id) {
    const draft = await get(path + "/queries/draft");
    drafted = id;
    at("title").textContent = draft.title;
    at("points").replaceChildren(...draft.points.map((point) => make("li", point)));
  }
  at("decide").hidden = !waits(run);
  const shown = Array.isArray(events) ? events.filter(({ kind }) => kind in WORDS) : [];
  at("timeline").replaceChildren(...shown.map((event) => {
    const item = make("li", ""), when = new Date(event.at);
    item.append(make("span", WORDS[event.kind](event)));
    const exact = { dateTime: when.toISOString(), title: when.toLocaleString() };
    item.append(make("time", when.toLocaleTimeString(), exact));
    return item;
  }));
}

const show = () => Promise.all([showRuns(), showRun()]).catch(() => { at("status").textContent = "not reachable"; });
function choose() { chosen = decodeURIComponent(location.hash.slice(1)); at("refused").hidden = true; show(); }

at("start").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target, button = form.querySelector("button");
  button.disabled = true;
  try {
    const input = Object.fromEntries(new FormData(form));
    const body = JSON.stringify({ workflow: "publish", input, attributes: { topic: input.topic } });
    const run = await (await fetch("/runs?settle=1", { method: "POST", body })).json();
    form.reset();
    location.hash = run.id;
  } finally { button.disabled = false; }
});
at("decide").addEventListener("click", async ({ target }) => {
  if (!target.dataset.approved) return;
  const body = JSON.stringify({ approved: target.dataset.approved === "true", by: "decided on the page" });
  const headers = at("key").value ? { authorization: "Bearer " + at("key").value } : {};
  const path = `/runs/${encodeURIComponent(chosen)}/signals/decision?dedupe=page`;
  const answer = await fetch(path, { method: "POST", body, headers });
  at("refused").hidden = answer.ok;
  const wrong = "The approval key is missing or wrong.";
  if (!answer.ok) at("refused").textContent = answer.status === 401 ? wrong : await answer.text();
  show();
});
addEventListener("hashchange", choose);
choose(); setInterval(() => document.hidden || show(), 2000);
</script>
</html>
"""
