// The job of the benchmark on Cloudflare's own engine, in JavaScript: so many steps, one after the other.
//
// /?count=N starts an instance, waits for its end and answers {us, total}: microseconds a step, from the handler's
// first line to its last. What the instance costs before and behind that is not counted, and with ours it is.

import { WorkflowEntrypoint } from "cloudflare:workers";

export class Many extends WorkflowEntrypoint {
  async run(event, step) {
    const began = Date.now();
    let total = 0;
    for (let n = 0; n < event.payload; n++) total += await step.do(`add ${n}`, async () => n);
    return { us: ((Date.now() - began) / event.payload) * 1000, total };
  }
}

export default {
  async fetch(request, env) {
    const count = Number(new URL(request.url).searchParams.get("count"));
    const instance = await env.MANY.create({ params: count });
    for (;;) {
      const { status, output, error } = await instance.status();
      if (status === "complete") return Response.json(output);
      if (!["queued", "running", "waiting"].includes(status)) return new Response(JSON.stringify(error), { status: 500 });
      await scheduler.wait(20);
    }
  },
};
