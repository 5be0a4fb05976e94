"""A program that takes vLLM's command line where an evaluation starts it, and answers at once.

It lies in a package that is found before the real one (`installed`). What it does is written into a folder, whose
files decide how it behaves: `refuses` (a text: why it cannot start), `dies-after` (answers, then SIGKILL to itself;
the file is deleted, but with `again` beside it), `other-prompts` (its prompts are a token longer), `holds-after`
(answers; the next wait until the file is gone).
"""

import argparse
import json
import os
import shutil
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = "STAND_IN_VLLM"


def installed(place: Path) -> dict[str, str]:
    """The environment in which `vllm` is this program; its folder is `place`."""
    package = place / "site" / "vllm" / "entrypoints" / "launchers" / "api_server"
    package.mkdir(parents=True)
    for folder in (package, *package.parents[:3]):
        (folder / "__init__.py").touch()
    shutil.copy(__file__, package / "entry.py")
    (place / "starts").touch()
    found = os.pathsep.join(filter(None, (str(place / "site"), os.environ.get("PYTHONPATH"))))
    return {FOLDER: str(place), "PYTHONPATH": found}


def requests(place: Path) -> list[tuple[str, str, int]]:
    """Model, question and seed of each chat request that was answered."""
    lines = (place / "requests").read_text().splitlines() if (place / "requests").exists() else []
    return [(one["model"], one["messages"][-1]["content"], one["seed"]) for one in map(json.loads, lines)]


def starts(place: Path) -> list[dict[str, Any]]:
    """Process id, arguments and GPUs of each start."""
    return [json.loads(line) for line in (place / "starts").read_text().splitlines()]


class _Handler(BaseHTTPRequestHandler):
    lock = threading.Lock()
    answered = 0

    def do_GET(self) -> None:
        self._send({"data": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(self._tokens(body) if self.path == "/tokenize" else self._answer(body))

    def _tokens(self, body: dict[str, Any]) -> dict[str, Any]:
        from jinja2 import Environment
        from tokenizers import Tokenizer

        model = Path(_arguments().model)
        template = Environment().from_string((model / "chat_template.jinja").read_text())
        prompt = template.render(messages=body["messages"], add_generation_prompt=True, bos_token="<bos>")
        found = Tokenizer.from_file(str(model / "tokenizer.json")).encode(prompt, add_special_tokens=False).ids
        return {"tokens": found + ([0] if (_folder() / "other-prompts").exists() else [])}

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        assert self.headers["Authorization"] == f"Bearer {os.environ['VLLM_API_KEY']}"
        with self.lock:
            _hold()
            _die()
            _Handler.answered += 1
            _note("requests", body)
        message = {"role": "assistant", "content": "\\boxed{1}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        head = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
        return head | {"choices": [choice], "usage": usage}

    def _send(self, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _die() -> None:
    limit = _folder() / "dies-after"
    if limit.exists() and _Handler.answered >= int(limit.read_text()):
        if not (_folder() / "again").exists():
            limit.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def _hold() -> None:
    limit = _folder() / "holds-after"
    while limit.exists() and _Handler.answered >= int(limit.read_text()):
        threading.Event().wait(0.02)


def _folder() -> Path:
    return Path(os.environ[FOLDER])


def _note(file: str, value: dict[str, Any]) -> None:
    with (_folder() / file).open("a") as stream:
        stream.write(json.dumps(value) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model")
    parser.add_argument("--port", type=int)
    return parser.parse_known_args()[0]


def main() -> None:
    """Serve until it is ended."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    _note("starts", {"pid": os.getpid(), "arguments": sys.argv[1:], "gpus": gpus})
    if (_folder() / "refuses").exists():
        print("INFO: starting", (_folder() / "refuses").read_text(), sep="\n")
        sys.exit(1)
    with ThreadingHTTPServer(("127.0.0.1", _arguments().port), _Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
