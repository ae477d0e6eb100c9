/** One message of a stream of server-sent events. */
export interface StreamMessage {
  event: string;
  data: unknown;
}

/** The messages of a stream, for as long as it goes on. */
export async function* messagesOf(url: string, signal?: AbortSignal): AsyncGenerator<StreamMessage> {
  const answer = await fetch(url, signal === undefined ? {} : { signal });
  if (answer.body === null || answer.status !== 200) throw new Error(`${answer.status} ${await answer.text()}`);
  let text = "";
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const [, event = "", data = ""] = /^event: (.*)\ndata: (.*)$/.exec(text.slice(0, end)) ?? [];
      text = text.slice(end + 2);
      yield { event, data: JSON.parse(data) };
    }
  }
}
