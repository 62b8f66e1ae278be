"""Programs beside the benchmark, run as `python -m scripts.<name>` from the repository root."""
