"""The exit statuses of `python -m benchmark.compare`, in a file that is imported in no time."""

# WORSE: the gate failed. INCOMPARABLE: nothing can be compared, or an argument cannot be used.
OK, WORSE, INCOMPARABLE = 0, 1, 2
