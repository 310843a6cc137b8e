"""The page: starts runs, shows the timeline of one, and decides."""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>worker-agent</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
  textarea, input { font: inherit; width: 100%; box-sizing: border-box; }
  li { margin: .3rem 0; } code { background: #eee; padding: 0 .3em; } .waiting { font-weight: 600; }
  time { color: #666; font-variant-numeric: tabular-nums; }
</style>
<h1>worker-agent</h1>
<form id="start">
  <p><label>Topic <input name="topic" required></label></p>
  <p><label>Notes, one a line <textarea name="notes" rows="4"></textarea></label></p>
  <button>Start</button>
</form>
<h2>Runs</h2><ul id="runs"></ul>
<section id="run" hidden>
  <h2 id="name"></h2><p id="status" class="waiting"></p>
  <p id="decide" hidden>
    <input id="key" type="password" placeholder="approval key, if one is set" autocomplete="off">
    <button data-approved="true">Approve</button> <button data-approved="false">Reject</button>
  </p>
  <ol id="timeline"></ol>
</section>
<script>
const at = (id) => document.getElementById(id);
const say = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
const get = async (path) => (await fetch(path)).json();
let chosen = location.hash.slice(1);

async function show() {
  const { runs } = await get("/runs?workflow=publish&limit=20");
  at("runs").replaceChildren(...runs.map((run) => {
    const link = Object.assign(say("a", run.id), { href: "#" + run.id });
    const item = say("li", ""); item.append(link, " " + run.status); return item;
  }));
  at("run").hidden = !chosen;
  if (!chosen) return;
  const [run, events] = await Promise.all([get("/runs/" + chosen), get(`/runs/${chosen}/events`)]);
  at("name").textContent = chosen;
  const waiting = run.waiting?.length ? `, waiting for ${run.waiting.join(" and ")}` : "";
  at("status").textContent = run.error ? run.error.message : run.status + waiting;
  at("decide").hidden = !run.waiting?.includes("signal decision");
  at("timeline").replaceChildren(...(Array.isArray(events) ? events : []).map((event) => {
    const item = say("li", "");
    item.append(say("time", new Date(event.at).toLocaleString()), ` ${event.kind} `, say("code", event.name ?? ""));
    return item;
  }));
}

at("start").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = Object.fromEntries(new FormData(event.target));
  const body = JSON.stringify({ workflow: "publish", input });
  location.hash = (await (await fetch("/runs", { method: "POST", body })).json()).id;
});
at("decide").addEventListener("click", async (event) => {
  if (!event.target.dataset.approved) return;
  const body = JSON.stringify({ approved: event.target.dataset.approved === "true", by: "the page" });
  const headers = at("key").value ? { authorization: "Bearer " + at("key").value } : {};
  const answer = await fetch(`/runs/${chosen}/signals/decision`, { method: "POST", body, headers });
  if (!answer.ok) alert(await answer.text());
  show();
});
addEventListener("hashchange", () => { chosen = location.hash.slice(1); show(); });
show(); setInterval(show, 2000);
</script>
</html>
"""
