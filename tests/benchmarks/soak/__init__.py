"""A soak of the gateway: very many requests, engines that break in every way, clients that leave, and an audit.

    python tests/benchmarks/soak --requests 200000

A real `alphatier serve`, engines in processes of their own that are killed, frozen and started again, and
clients in processes of their own. In the end it is checked that every request was recorded exactly once,
that the counters equal what the clients saw, that nothing is left in flight, that memory, sockets and
tasks did not grow, and that no request outlived its limit. It proves no speed; the figures are for reading.
"""
