"""A server that answers like OpenAI's: `python model.py PORT`.

A prompt of `delay=0.2 tokens=40` is answered after that long by that many tokens, and 10
of the prompt; `fail` by an error. GET /most says how many calls ran at once at most.
"""

import asyncio
import json
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

running = most = calls = 0


async def answer(request):
    global running, most, calls
    body = await request.json()
    words = body["messages"][-1]["content"].split()
    said = dict(word.split("=") for word in words if "=" in word)
    tokens = int(said.get("tokens", 5))
    usage = {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}
    head = {"id": "x", "created": 1, "model": "fake"}
    running += 1
    calls += 1
    most = max(most, running)
    try:
        await asyncio.sleep(float(said.get("delay", 0)))
    finally:
        running -= 1
    if "fail" in words:
        return JSONResponse({"error": {"message": "it fails", "type": "server_error"}}, 500)
    if not body.get("stream"):
        message = {"role": "assistant", "content": f"answer {calls}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse(
            {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        )

    async def chunks():
        chunk = {**head, "object": "chat.completion.chunk"}
        for _ in range(5):
            choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
            yield f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\n"
            await asyncio.sleep(float(said.get("pause", 0)))
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        yield f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\n"
        yield f"data: {json.dumps({**chunk, 'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(chunks(), media_type="text/event-stream")


async def tell(request):
    global most
    told, most = most, running
    return JSONResponse({"most": told, "calls": calls})


routes = [
    Route("/v1/chat/completions", answer, methods=["POST"]),
    Route("/most", tell),
]
uvicorn.run(
    Starlette(routes=routes),
    host="127.0.0.1",
    port=int(sys.argv[1]),
    log_level="warning",
    timeout_keep_alive=600,
)
