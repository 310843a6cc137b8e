// Starts Pyodide and the agent in it; the same in a Web Worker and in a page. Gives `ask(verb, ...)`, a promise.
export async function startEngine({ dist, here, say, tell }) {
  say("Starting Python …");
  const { loadPyodide } = await import(new URL("pyodide.mjs", dist).href);
  const pyodide = await loadPyodide({ indexURL: dist });
  await pyodide.loadPackage("alkaline-edge", { messageCallback: () => {} });
  say("Reading the record …");
  for (const name of ["research.py", "agent.py"]) {
    const answer = await fetch(new URL(name, here), { cache: "no-cache" });
    if (!answer.ok) throw new Error(`${name}: the server answered ${answer.status}`);
    pyodide.FS.writeFile(name, await answer.text());
  }
  const agent = pyodide.pyimport("agent").Agent(new URL("library/", here).href, tell);

  return async (verb, ...values) => {
    const found = await agent[verb](...values);
    return found instanceof Uint8Array ? found : undefined;
  };
}
