"""OpenAI's client asks a server that was just started, in text and about a picture, at once and streaming.
Then the server is stopped.

    python -m qwen_ref serve --port 8080 & python tests/arm64/ask.py 8080 $!
"""

import base64
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import openai

port, server = map(int, sys.argv[1:])
url = f"http://127.0.0.1:{port}"
while True:
    try:
        assert b"<html" in urllib.request.urlopen(url, timeout=60).read()
        break
    except urllib.error.URLError:
        os.kill(server, 0)  # it is still there
        time.sleep(1)
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=600)
(model,) = [model.id for model in client.models.list()]
picture = base64.b64encode(Path("examples/media/word.png").read_bytes()).decode()
seen = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
for content in "What is 27 + 58?", [seen, {"type": "text", "text": "What does it say?"}]:
    asked = dict(model=model, messages=[{"role": "user", "content": content}], temperature=0, max_tokens=60)
    answer = client.chat.completions.create(**asked).choices[0].message.content
    pieces = [chunk.choices for chunk in client.chat.completions.create(**asked, stream=True)]
    streamed = "".join(choices[0].delta.content or "" for choices in pieces if choices)
    assert answer == streamed, (answer, streamed)
    print(answer)
os.kill(server, signal.SIGTERM)
