// Answers every request with a greeting.
import { getEnvironment } from "wasi:cli/environment@0.2.10";

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const environment = Object.fromEntries(getEnvironment());
  const greeting = environment.GREETING ?? "Hello";
  const url = new URL(request.url);
  const name = url.searchParams.get("name") ?? "world";
  const body = await request.arrayBuffer();
  const agent = request.headers.get("user-agent") ?? "something unnamed";
  const text = `${greeting}, ${name}!\nYou sent ${request.method} ${url.pathname} with ${body.byteLength} bytes by ${agent}.\n`;
  return new Response(text, { headers: { "content-type": "text/plain; charset=utf-8" } });
}
