// A web service that searches texts by regular expressions of its users.
//
// A few characters of a pattern can keep an engine of regular expressions busy for years, and with it all of a process in
// Node.js. So patterns are not run here: a worker runs each in a sandbox, for two seconds at most.

import { createServer } from "node:http";

import { Failed, Tasks } from "./tasks";

interface Match {
  line: number;
  text: string;
}

const BODY_BYTES_MAX = 1_000_000;
const PATIENCE_MS = 15_000;

const broker = process.env.CELERY_BROKER_URL ?? "redis://localhost:6379/0";
const tasks = new Tasks(broker, process.env.CELERY_RESULT_BACKEND ?? broker, process.env.QUEUE ?? "searches");

const server = createServer(async (request, response) => {
  const answer = (status: number, body: unknown) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(body) + "\n");
  };
  const url = new URL(request.url ?? "/", "http://localhost");
  const pattern = url.searchParams.get("pattern");
  if (request.method !== "POST" || url.pathname !== "/search" || pattern === null) {
    return answer(404, { error: "POST a text to /search?pattern=.." });
  }
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) {
    text += chunk;
    if (text.length > BODY_BYTES_MAX) return answer(413, { error: "the text is too long" });
  }
  try {
    answer(200, await tasks.call<Match[]>("patterns.search", [pattern, text], { limit: 20 }, PATIENCE_MS));
  } catch (error) {
    // What the task says is for the user; anything else is our trouble.
    if (error instanceof Failed) return answer(422, { error: error.message });
    console.error(error);
    answer(503, { error: "no worker has answered" });
  }
});

tasks.ready().then(
  () => {
    server.listen(Number(process.env.PORT ?? 8000), "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      console.log(`listening on http://127.0.0.1:${port}`);
    });
  },
  (error: Error) => {
    console.error(`cannot reach ${broker}: ${error.message}`);
    process.exitCode = 1;
  },
);
