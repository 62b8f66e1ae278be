"""LoRA fine-tuning of PixArt: images -> encodings -> trainer -> adapter; the scripts call it, and copy nothing."""
