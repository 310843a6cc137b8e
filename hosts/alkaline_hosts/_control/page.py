"""The plain page of a control plane: what the API answers, as tables. It holds no data and no secret of its own."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>alkaline control</title>
<link rel="stylesheet" href="page.css">
<h1>alkaline control</h1>
<form id="who">
  <label>Token <input id="token" type="password" autocomplete="off" required></label>
  <label>Status <input id="status" list="states"></label>
  <label>Workflow <input id="workflow"></label>
  <datalist id="states">
    <option>running<option>suspended<option>paused<option>failed<option>completed<option>cancelled
  </datalist>
  <button>Look</button>
</form>
<p id="said" role="status"></p>
<h2>Servers</h2><table id="servers"></table>
<h2>Runs</h2><table id="runs"></table>
<h2>Operate</h2>
<form id="operate">
  <label>Do <select id="verb"><option>pause<option>resume<option>retry<option>cancel</select></label>
  <span>to every run of that status and workflow</span>
  <button value="try">Dry run</button> <button value="do" id="do" disabled>Do it</button>
</form>
<table id="done"></table>
<script src="page.js"></script>
</html>
"""

STYLE = """:root { color-scheme: light dark; font: 14px/1.5 system-ui, "DejaVu Sans", sans-serif;
  --line: light-dark(#dde1e7, #2e3541); --quiet: light-dark(#586273, #9aa5b5); --accent: light-dark(#3454c4, #8aa4ff);
  --good: light-dark(#1f7a4d, #6fd3a0); --bad: light-dark(#b3261e, #ff9b92); --wait: light-dark(#8a5300, #f2c46d); }
body { margin: 1.5rem auto; max-width: 75rem; padding: 0 1rem;
  background: light-dark(#fff, #191d24); color: light-dark(#1c2430, #e3e7ee); }
h1 { font-size: 1.6rem; margin: 0 0 1rem; } h2 { font-size: 1.15rem; margin: 1.75rem 0 .25rem; }
form { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; } label { color: var(--quiet); }
input, select, button { font: inherit; color: inherit; background: transparent; padding: .2rem .6rem;
  border: 1px solid var(--line); border-radius: 7px; } select option { color: CanvasText; background: Canvas; }
button { cursor: pointer; } button:disabled { opacity: .6; cursor: default; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem 1rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--quiet); font-weight: 600; white-space: nowrap; } td { overflow-wrap: break-word; }
td.completed, td.serves { color: var(--good); } td.failed, td.down { color: var(--bad); font-weight: 600; }
td.suspended, td.paused { color: var(--wait); }
@media (max-width: 44rem) {
  tr:has(th) { display: none; } tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  td { display: flex; gap: .75rem; border: 0; padding: .05rem 0; overflow-wrap: anywhere; } td:empty { display: none; }
  td::before { content: attr(data-name); flex: 0 0 6rem; color: var(--quiet); font-weight: 400; }
}
"""

SCRIPT = """"use strict";
const by = (id) => document.getElementById(id);
let tried = null;

async function ask(path, body) {
  const headers = { authorization: `Bearer ${by("token").value}` };
  const request = body ? { method: "POST", headers: { ...headers, "content-type": "application/json" },
                           body: JSON.stringify(body) } : { headers };
  const answer = await fetch(path, request);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error ? found.error.message : `HTTP ${answer.status}`);
  return found;
}

function table(id, names, rows) {
  const made = [names, ...rows].map((cells, n) => {
    const row = document.createElement("tr");
    cells.forEach((cell, m) => {
      const made = row.appendChild(document.createElement(n ? "td" : "th"));
      made.textContent = cell ?? "";
      made.dataset.name = names[m];
      if (/^[a-z]+$/.test(cell ?? "") && /^(state|status)$/.test(names[m])) made.className = cell;
    });
    return row;
  });
  by(id).replaceChildren(...made);
}

const time = (ms) => (ms ? new Date(ms).toISOString().replace("T", " ").slice(0, 19) : "");
const filter = () => ({ status: by("status").value || null, workflow: by("workflow").value || null });

function told(error) {
  by("said").textContent = error ? error.message : "";
}

async function look() {
  const health = await ask("api/health");
  const servers = Object.entries(health.servers).map(([name, one]) => [
    name, one.serving ? "serves" : "answers", one.workflows.join(", "),
    Object.entries(one.owners).map(([who, has]) => `${who}: ${has.runs} until ${time(has.lease_until)}`).join("; "),
    time(one.oldest_due) + (one.late ? `, late by ${Math.round(one.late / 1000)} s` : ""),
    Object.entries(one.stuck).map(([run, why]) => `${run}: ${why ? why.message : ""}`).join("; "),
  ]);
  const down = Object.entries(health.down).map(([name, why]) => [name, "down", "", "", "", why]);
  table("servers", ["server", "state", "workflows", "owners", "first timer", "stuck"], [...servers, ...down]);
  const query = new URLSearchParams(Object.entries(filter()).filter(([, value]) => value));
  const runs = await ask(`api/runs?${query}`);
  table("runs", ["server", "run", "workflow", "status", "waits for", "updated"], runs.runs.map((run) => [
    run.server, run.id, `${run.workflow} v${run.version}`, run.status, run.waiting.join(", "), time(run.updated_at)]));
  const counts = Object.entries(runs.counts).map(([status, count]) => `${count} ${status}`).join(", ");
  by("said").textContent = `${runs.total} runs: ${counts}`;
}

by("who").addEventListener("submit", (event) => {
  event.preventDefault();
  look().catch(told);
});
by("operate").addEventListener("submit", (event) => {
  event.preventDefault();
  const dry = event.submitter.value === "try";
  const asked = { verb: by("verb").value, ...filter(), dry_run: dry };
  const same = JSON.stringify({ ...asked, dry_run: false });
  if (!dry && tried !== same) return told(new Error("make a dry run of this first"));
  ask("api/bulk", asked).then((found) => {
    tried = dry ? same : null;
    by("do").disabled = !dry;
    table("done", ["server", "run", "status", dry ? "would be" : "outcome"],
      found.runs.map((run) => [run.server, run.id, run.status, dry ? found.verb : run.outcome]));
    told(null);
  }).catch(told);
});
"""
