/**
 * A participant of sagas over plain HTTP: stock that is reserved and released. Nothing but Node's standard library.
 *
 *     node stock.js PORT FOLDER      (or `node stock.ts`, where Node runs TypeScript itself)
 *
 * Each call's outcome and its changes are ONE line of a journal, synced before the answer: what is repeated, late or out of order finds
 * the outcome and changes nothing.
 */

import { appendFileSync, closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** What the orchestrator sends; there is more in it than is used here. */
interface Call {
  instance: string;
  step: string;
  item?: number;
  operation: "action" | "compensation";
  call: string;
  must_succeed: boolean;
  transaction?: object | null;
  arguments: { order: string; sku: string; pieces: number };
}

/** `prevented`: an action that is compensated. */
interface Recorded {
  outcome: "succeeded" | "refused" | "prevented";
  answer: Json;
}

interface Stock {
  on_hand: number;
  reserved: number;
}

/** One line of the journal: what a call has changed, and what is recorded by it. */
interface Entry {
  stock: Record<string, Stock>;
  recorded: Record<string, Recorded>;
}

/** The call took no effect, and never will under its key. Everything else that is thrown says that nobody knows. */
class Refused extends Error {
  readonly answer: Json;
  constructor(code: string, message: string) {
    super(message);
    this.answer = { code, message };
  }
}

class Store {
  readonly stock: Record<string, Stock> = { mug: { on_hand: 1_000_000, reserved: 0 } };
  private readonly recorded = new Map<string, Recorded>();
  private readonly journal: number;
  private readonly path: string;

  constructor(folder: string) {
    mkdirSync(folder, { recursive: true });
    this.path = join(folder, "journal.jsonl");
    this.journal = openSync(this.path, "a+");
    const text = readFileSync(this.path);
    // A line that a crash cut off was never answered: it is gone. All others were.
    const whole = text.lastIndexOf(0x0a) + 1;
    ftruncateSync(this.journal, whole);
    fsyncSync(this.journal);
    const directory = openSync(folder, "r");
    fsyncSync(directory);
    closeSync(directory);
    for (const line of text.subarray(0, whole).toString().split("\n")) {
      if (line !== "") this.apply(JSON.parse(line) as Entry);
    }
  }

  find(key: string): Recorded | undefined {
    return this.recorded.get(key);
  }

  /** Both or neither: one line, on disk when this returns. */
  commit(entry: Entry): void {
    try {
      appendFileSync(this.journal, `${JSON.stringify(entry)}\n`);
      fsyncSync(this.journal);
    } catch (error) {
      // Nobody knows what is on disk now; the next start reads it.
      console.error(error);
      process.exit(1);
    }
    this.apply(entry);
  }

  private apply(entry: Entry): void {
    Object.assign(this.stock, entry.stock);
    for (const [key, recorded] of Object.entries(entry.recorded)) this.recorded.set(key, recorded);
  }
}

/** What an operation does: the rows as they are afterwards, and the output. */
type Effect = (store: Store, call: Call) => { stock: Record<string, Stock>; output: Json };

const reserve: Effect = (store, { arguments: { order, sku, pieces } }) => {
  const now = store.stock[sku] ?? { on_hand: 0, reserved: 0 };
  if (now.on_hand < pieces) throw new Refused("OUT_OF_STOCK", `there are no ${pieces} of ${sku}`);
  const left = now.on_hand - pieces;
  return { stock: { [sku]: { on_hand: left, reserved: now.reserved + pieces } }, output: { order, left } };
};

/** Runs only if the reservation succeeded, with the same arguments, and once: the barrier sees to it. */
const release: Effect = (store, { arguments: { sku, pieces } }) => {
  const now = store.stock[sku];
  if (now === undefined) throw new Error(`${sku} was reserved and is not there`);
  return { stock: { [sku]: { on_hand: now.on_hand + pieces, reserved: now.reserved - pieces } }, output: null };
};

const operations = new Map<string, Effect>([["reserve", reserve], ["release", release]]);

const compensated: Recorded = {
  outcome: "prevented",
  answer: { code: "COMPENSATED", message: "the step is compensated: its action must not take effect any more" },
};

/**
 * Runs `effect` at most once for this call, and says what to answer. Node runs this without a pause from the look to the commit, so
 * neither a duplicate nor the compensation comes in between.
 */
function once(store: Store, call: Call, effect: Effect): [status: number, answer: Json] {
  const step = `${call.instance}/${call.step}/${call.item ?? ""}`;
  const [own, action] = [`${step}/${call.operation}`, `${step}/action`];
  const known = store.find(own);
  if (known !== undefined) return [known.outcome === "succeeded" ? 200 : 409, known.answer];
  const isCompensation = call.operation === "compensation";
  const prevents: Record<string, Recorded> = isCompensation ? { [action]: compensated } : {};
  if (isCompensation && store.find(action)?.outcome !== "succeeded") {
    // There is nothing to undo, and from now on there never will be.
    store.commit({ stock: {}, recorded: { ...prevents, [own]: { outcome: "succeeded", answer: null } } });
    return [200, null];
  }
  try {
    const { stock, output } = effect(store, call);
    store.commit({ stock, recorded: { ...prevents, [own]: { outcome: "succeeded", answer: output } } });
    return [200, output];
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (!call.must_succeed) store.commit({ stock: {}, recorded: { [own]: { outcome: "refused", answer: error.answer } } });
    return [409, error.answer];
  }
}

function readCall(body: string): Call {
  const call = JSON.parse(body) as Partial<Call> | null;
  if (call?.transaction) {
    // Its action may not take effect before all have voted, and nothing here waits for that. Nothing was done, so this is a refusal.
    throw new Refused("SAGAS_ONLY", "this participant takes part in sagas only, not in transactions");
  }
  const { sku, pieces } = call?.arguments ?? {};
  const isCall =
    typeof call?.instance === "string" && typeof call.step === "string" && typeof call.call === "string" &&
    (call.operation === "action" || call.operation === "compensation") && typeof call.must_succeed === "boolean";
  if (!isCall) throw new Error("these are not the fields of a call");
  if (typeof sku !== "string" || !Number.isSafeInteger(pieces)) throw new Error("these are not the arguments of a reservation");
  return call as Call;
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

async function serve(store: Store, request: IncomingMessage): Promise<[status: number, answer: Json]> {
  if (request.method === "GET") return [200, store.stock as unknown as Json];
  const name = (request.url ?? "").replace(/^\/saga\//, "");
  let call: Call;
  try {
    call = readCall(await bodyOf(request));
  } catch (error) {
    if (error instanceof Refused) return [409, error.answer];
    return [400, { code: "INVALID_CALL", message: `the body is no call: ${error}` }];
  }
  const effect = operations.get(name);
  if (effect === undefined || call.call !== name) return [404, { code: "UNKNOWN_CALL", message: `there is no operation ${name}` }];
  try {
    return once(store, call, effect);
  } catch (error) {
    // Not a refusal: it may have happened, so the saga asks again under the same key.
    return [503, { code: "HANDLER_ERROR", message: String(error) }];
  }
}

const [port, folder] = process.argv.slice(2);
const store = new Store(folder ?? "data");
const server = createServer((request, response) => {
  void serve(store, request).then(([status, answer]) => {
    const body = JSON.stringify(answer);
    response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(body) }).end(body);
  });
});
server.listen(Number(port), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
