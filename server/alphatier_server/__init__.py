"""The gateway: a family of efficiency tiers behind OpenAI's HTTP API.

A request's way through the files:

    app -> endpoint -> body -> decision -> pool -> upstream -> relay -> record

`decision` does no I/O and `relay` only moves bytes; `record` runs exactly once a request.
`engines` starts and supervises vLLM or `transformers serve`, or finds engines by URL.
Nothing here imports torch, transformers, vllm or training code.
"""
