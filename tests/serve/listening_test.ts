/** HTTPS and Unix sockets, with the real command. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { selfSigned } from "../helpers/certificate.ts";
import { Running } from "./running.ts";

const LOCAL = ["--port=0", "--host=127.0.0.1"];

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

Deno.test("With a certificate the server speaks HTTPS, and the banner says so", async () => {
  await withFolder(async (folder) => {
    const { cert, key } = await selfSigned();
    await Deno.writeTextFile(`${folder}/cert.pem`, cert);
    await Deno.writeTextFile(`${folder}/key.pem`, key);
    const flags = [`--ssl-certfile=${folder}/cert.pem`, `--ssl-keyfile=${folder}/key.pem`];
    await using running = new Running(["fake", ...LOCAL, ...flags]);
    const url = await running.url();
    assert(url.startsWith("https://127.0.0.1:"), url);
    using trusting = Deno.createHttpClient({ caCerts: [cert] });
    const response = await fetch(`${url}/health`, { client: trusting });
    assertEquals([response.status, await response.text()], [200, ""]);
    const strangers = await fetch(`${url}/health`).then(() => "answered", () => "refused");
    assertEquals(strangers, "refused");
  });
});

Deno.test("One file may hold certificate and key", async () => {
  await withFolder(async (folder) => {
    const { cert, key } = await selfSigned();
    await Deno.writeTextFile(`${folder}/both.pem`, cert + key);
    await using running = new Running(["fake", ...LOCAL, `--ssl-certfile=${folder}/both.pem`]);
    assertStringIncludes(await running.url(), "https://");
  });
});

Deno.test("A key that does not fit, or is none, ends the start before anything is loaded", async () => {
  await withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/cert.pem`, (await selfSigned()).cert);
    await Deno.writeTextFile(`${folder}/other.pem`, (await selfSigned()).key);
    await Deno.writeTextFile(`${folder}/none.pem`, "no key\n");
    for (const key of ["other", "none"]) {
      const flags = [`--ssl-certfile=${folder}/cert.pem`, `--ssl-keyfile=${folder}/${key}.pem`];
      await using running = new Running(["fake", ...LOCAL, ...flags]);
      assertEquals(await running.code(), 1);
      assertStringIncludes(running.text, "error: Cannot use --ssl-certfile and --ssl-keyfile: ");
      assertEquals(running.text.split("\n").length, 2, running.text);
    }
  });
});

const unix = { name: "Unix sockets", ignore: Deno.build.os === "windows" };

Deno.test({
  ...unix,
  name: "A Unix socket is answered on, refused to a second server, and removed at the end",
}, async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/llm.sock`;
    await using running = new Running(["fake", `--uds=${path}`]);
    await running.said("curl --unix-socket");
    using client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
    const response = await fetch("http://localhost/health", { client });
    assertEquals([response.status, await response.text()], [200, ""]);
    await running.said('unix - "GET /health" 200');

    await using second = new Running(["fake", `--uds=${path}`]);
    assertEquals(await second.code(), 1);
    assertEquals(
      second.text,
      `error: Cannot listen on --uds "${path}" as another program does: choose another path\n`,
    );
    running.process.kill("SIGTERM");
    assertEquals(await running.code(), 0);
    assertEquals(exists(path), false);
  });
});

Deno.test({
  ...unix,
  name: "The socket that a killed server left is replaced; any other file is not",
}, async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/llm.sock`;
    {
      await using killed = new Running(["fake", `--uds=${path}`]);
      await killed.said("curl --unix-socket");
    }
    assertEquals(exists(path), true);
    await using running = new Running(["fake", `--uds=${path}`]);
    await running.said("curl --unix-socket");

    await Deno.writeTextFile(`${folder}/notes`, "mine");
    await using wrong = new Running(["fake", `--uds=${folder}/notes`]);
    assertEquals(await wrong.code(), 1);
    assertStringIncludes(wrong.text, "as it is no socket: choose another path");
    assertEquals(await Deno.readTextFile(`${folder}/notes`), "mine");

    await using nowhere = new Running(["fake", `--uds=${folder}/no/llm.sock`]);
    assertEquals(await nowhere.code(), 1);
    assertStringIncludes(nowhere.text, `error: Cannot listen on --uds "${folder}/no/llm.sock": `);
  });
});
