"""What workers do in tests with torch: each stands in a module, so that it can be sent."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from benchmark.run.servers import Channel


def tell_of_cuda(channel: Channel) -> None:
    import torch

    usable = bool((torch.ones(2, device="cuda") * 2).sum() == 4) if torch.cuda.is_available() else None
    hub = sys.modules.get("huggingface_hub.constants")
    channel.send(
        {
            "bad_fork": torch.cuda._is_in_bad_fork(),
            "initialized": torch.cuda.is_initialized(),
            "usable": usable,
            "sum": float(torch.arange(200_000.0).reshape(400, 500).matmul(torch.ones(500, 300)).sum()),
            "offline": hub is not None and hub.HF_HUB_OFFLINE,
            "modules": sorted(sys.modules),
            "threads_of_server": [
                path.read_text().strip() for path in Path(f"/proc/{os.getppid()}/task").glob("*/comm")
            ],
        }
    )


def start_compile_workers_and_wait(channel: Channel) -> None:
    """Start torch's compile workers, use one; tell the ids of the server, this process, their parent and that one."""
    from torch._inductor.async_compile import AsyncCompile

    pool = AsyncCompile.process_pool()
    compiles = pool.submit(os.getpid).result()
    channel.send([os.getppid(), os.getpid(), pool.process.pid, compiles])  # type: ignore[union-attr]
    time.sleep(60)
