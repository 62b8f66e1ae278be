"""What holds for every test: one thread, no downloads, and Triton's kernels where there is no GPU."""

import os

import torch

# Tests are many small operations, which threads slow down: with two of them the suite takes three times as long as with
# one. Programs that tests start have their own, and no test here looks at the number of threads.
torch.set_num_threads(1)

# No test asks the network for anything but itself; those of downloads take this away again.
os.environ.setdefault("OFFLINE", "1")

if not torch.cuda.is_available():
    # Triton's kernels are interpreted; this has to be said before Triton is imported.
    os.environ["TRITON_INTERPRET"] = "1"
