// Answers every request with a greeting.
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from "wasi:http/types@0.2.12";

export const incomingHandler = {
  handle(request, answer) {
    const text = `Hello from NAME, asked for ${request.pathWithQuery()}\n`;

    const response = new OutgoingResponse(new Fields());
    const body = response.body();
    ResponseOutparam.set(answer, { tag: "ok", val: response });

    const stream = body.write();
    stream.blockingWriteAndFlush(new TextEncoder().encode(text));
    stream[Symbol.dispose]();
    OutgoingBody.finish(body, undefined);
  },
};
