"""Where there is no GPU, Triton's kernels are interpreted: this has to be said before Triton is imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
