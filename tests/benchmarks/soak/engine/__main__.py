"""`python -m benchmarks.soak.engine`: serves on one port of this machine until it is killed."""

import argparse
import asyncio

import uvloop

from benchmarks.soak.engine.apis import job_of
from benchmarks.soak.engine.connection import Connection, Engine
from benchmarks.soak.engine.faults import steps_of


async def serve(port: int, name: str) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    engine = Engine(name, job_of, steps_of)
    server = await loop.create_server(lambda: Connection(engine), "127.0.0.1", port, reuse_port=True, backlog=1024)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="engine")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.name))


if __name__ == "__main__":
    main()
