// Read one key over plain HTTP: find the addresses, get a token, read. Prints the value into a pipe.

interface Addresses {
  gateway: string;
  token_endpoint: string;
}

interface Key {
  key: string;
  version: number;
  value?: string;
  fields?: Record<string, string>;
}

interface Problem {
  title?: string;
  detail?: string;
  error?: string;
  error_description?: string;
  next_action?: unknown;
}

async function answered<T>(response: Response): Promise<T> {
  const body: unknown = await response.json().catch(() => ({}));
  if (response.ok) return body as T;
  const problem = body as Problem;
  const said = problem.detail ?? problem.error_description ?? problem.title ?? problem.error;
  const next = problem.next_action ? ` Next: ${JSON.stringify(problem.next_action)}` : "";
  throw new Error(`${response.status}: ${said ?? "no reason given"}${next}`);
}

function needed(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set.`);
  return value;
}

async function readKey(name: string): Promise<Key> {
  const console = needed("KEYVAULT_URL");
  const quick = { signal: AbortSignal.timeout(10_000), redirect: "error" } as const;
  const where = await answered<Addresses>(await fetch(`${console}/.well-known/keyvault`, quick));
  const form = new URLSearchParams({
    grant_type: "client_credentials",
    client_id: needed("KEYVAULT_CLIENT_ID"),
    client_secret: needed("KEYVAULT_CLIENT_SECRET"),
    scope: name,
  });
  const { access_token: token } = await answered<{ access_token: string }>(
    await fetch(where.token_endpoint, { method: "POST", body: form, ...quick }),
  );
  const headers = { Authorization: `Bearer ${token}` };
  return answered<Key>(await fetch(`${where.gateway}/v1/keys/${name}`, { headers, ...quick }));
}

const name: string | undefined = process.argv[2];
if (!name || process.stdout.isTTY) {
  console.error("usage: node read-key.mts NAME | PROGRAM (a terminal would show the value)");
  process.exit(2);
}
try {
  const key = await readKey(name);
  process.stdout.write(key.value ?? JSON.stringify(key.fields));
} catch (error) {
  console.error(`read-key: ${(error as Error).message}`);
  process.exitCode = 1;
}
