/** A client that needs nothing but `fetch`: `deno run -N examples/client.ts [URL] [QUESTION]`. */

const [url = "http://localhost:8000", question = "Why is the sky blue?"] = Deno.args;

const response = await fetch(`${url}/v1/chat/completions`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({
    messages: [{ role: "user", content: question }],
    max_tokens: 100,
    stream: true,
  }),
});
if (!response.ok) throw new Error((await response.json()).error.message);

const encoder = new TextEncoder();
let rest = "";
for await (const text of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
  // Events end with an empty line and may be cut anywhere: the last piece waits for more.
  const events = (rest + text).split("\n\n");
  rest = events.pop() ?? "";
  for (const event of events) {
    const data = event.slice("data: ".length);
    if (data === "[DONE]") break;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    await Deno.stdout.write(encoder.encode(chunk.choices[0]?.delta.content ?? ""));
  }
}
console.log();
