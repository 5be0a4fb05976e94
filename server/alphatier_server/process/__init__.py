"""The process: sockets, TLS, signals, the end, and worker processes. Nothing here knows what a request is."""
