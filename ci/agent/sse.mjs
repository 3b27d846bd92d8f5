// A plain reader of Server-Sent Events, for what the official clients do not read: the users' streams.

/** Opens a stream; it is there when this returns. `events` grows as they come; `ended` resolves with the body's end. */
export async function read(address, init) {
  const abort = new AbortController();
  const response = await fetch(address, { ...init, signal: abort.signal });
  if (!response.ok) throw new Error(`${address}: ${response.status} ${await response.text()}`);
  const stream = { events: [], comments: [], close: () => abort.abort() };
  let changed = deferred();
  const tell = () => { changed.resolve(); changed = deferred(); };
  stream.ended = (async () => {
    let rest = "";
    try {
      for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
        rest += text;
        const blocks = rest.split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          if (block.startsWith("data: ")) stream.events.push(JSON.parse(block.slice(6)));
          else if (block.startsWith(":")) stream.comments.push(block);
          else throw new Error(`neither data nor a comment: ${block}`);
        }
        tell();
      }
      if (rest) throw new Error(`the stream broke off within ${rest}`);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    } finally {
      stream.over = true;
      tell();
    }
  })();
  // Whoever waits for `ended` sees the error; nobody has to.
  stream.ended.catch(() => {});
  /** Waits until `condition` holds for the events. */
  stream.until = async (what, condition) => {
    const late = deferred();
    const timer = setTimeout(() => late.reject(new Error(`${address}: still waiting for ${what}`)), 60_000);
    try {
      while (!condition(stream.events)) {
        if (stream.over) throw new Error(`${address} ended before ${what}: ${stream.comments.at(-1)}`);
        await Promise.race([changed.promise, late.promise]);
      }
    } finally {
      clearTimeout(timer);
    }
  };
  return stream;
}

export function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

export const post = (body) => ({ method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
