// The agent in a Web Worker: the page stays free, and may end this worker at any moment without losing a step.
import { startEngine } from "./engine.js";

const options = Object.fromEntries(new URL(self.location).searchParams);
const ready = startEngine({
  ...options,
  say: (text) => self.postMessage({ say: text }),
  tell: (state) => self.postMessage({ state }),
});
ready.catch((error) => self.postMessage({ broken: `${error}` }));

self.onmessage = async ({ data: { number, verb, values } }) => {
  try {
    const ask = await ready;
    self.postMessage({ number, value: await ask(verb, ...values) });
  } catch (error) {
    self.postMessage({ number, error: `${error}` });
  }
};
