"""What built and trained the embedded default in assets/; run as `python -m scripts.embedded.<name>`."""
