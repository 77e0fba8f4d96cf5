/** The health check of the container: exits with 0 if the server on HEALTH_PORT says it is well. */

const port = Deno.env.get("HEALTH_PORT") ?? "8000";
try {
  const response = await fetch(`http://127.0.0.1:${port}/health`);
  await response.body?.cancel();
  Deno.exit(response.ok ? 0 : 1);
} catch (error) {
  if (!(error instanceof TypeError)) throw error;
  console.error(error.message); // it does not listen yet, or no longer
  Deno.exit(1);
}
