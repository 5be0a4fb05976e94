"""One request's way, a file a step: request, admit, decide, pick, send, relay, record."""
