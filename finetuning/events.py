"""TensorBoard events: a file under a name that is known before it is there."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from files.ledger import Ledger
from files.writing import naming


class Events:
    """Writes one event file into `folder`. TensorBoard drops what earlier files hold from step `start` + 1 on."""

    def __init__(self, folder: Path, ledger: Ledger, start: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"events.out.tfevents.{time.time_ns() // 1000:016d}.{os.getpid()}"
        ledger.claim(path)
        self._path = path
        self._records: Any = RecordWriter(path.open("xb"))
        self._add(file_version="brain.Event:2")
        self._add(step=start + 1, session_log=SessionLog(status=SessionLog.START))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Add a number."""
        from torch.utils.tensorboard import summary

        make: Any = summary.scalar
        self._add(step=step, summary=make(name, value))

    def add_image(self, name: str, image_HWC: Any, step: int) -> None:
        """Add an image, a uint8 array."""
        from torch.utils.tensorboard import summary

        make: Any = summary.image
        self._add(step=step, summary=make(name, image_HWC, dataformats="HWC"))

    def close(self) -> None:
        self._records.close()

    def _add(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        with naming(self._path):
            self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
            self._records.flush()
