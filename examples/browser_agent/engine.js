// Starts Pyodide and the agent in it; the same in a Web Worker and in a page. Gives `ask(verb, ...)`, a promise.
export async function startEngine({ dist, here, say, tell }) {
  say("Starting Python …");
  const { loadPyodide } = await import(new URL("pyodide.mjs", dist).href);
  const uncounted = countDownloads((bytes) => say(`Downloading Python: ${(bytes / 1e6).toFixed(1)} MB …`));
  let pyodide;
  try {
    pyodide = await loadPyodide({ indexURL: dist });
    await pyodide.loadPackage("alkaline-edge", { messageCallback: () => {} });
  } finally {
    uncounted();
  }
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

// Tell how many bytes `fetch` has brought, all together. Gives the function that puts the plain `fetch` back.
function countDownloads(tell) {
  const plain = globalThis.fetch;
  let bytes = 0;
  let told = 0;
  globalThis.fetch = async (...asked) => {
    const answer = await plain(...asked);
    if (!answer.ok || !answer.body) return answer;
    const count = new TransformStream({
      transform(chunk, controller) {
        bytes += chunk.byteLength;
        if (bytes - told > 100_000) tell((told = bytes));
        controller.enqueue(chunk);
      },
    });
    return new Response(answer.body.pipeThrough(count), answer); // the headers too: they say that it is WebAssembly
  };
  return () => (globalThis.fetch = plain);
}
