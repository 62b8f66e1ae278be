"""Ports for programs that have to be told one before they start."""

from __future__ import annotations

import random
import socket

# Below those that a system gives to whoever asks for any, as the servers of other tests do at the same time.
TO_CHOOSE_FROM = range(20_000, 32_000)


def free_port() -> int:
    """Return the number of a port that is not in use."""
    for port in random.SystemRandom().sample(TO_CHOOSE_FROM, 100):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")
