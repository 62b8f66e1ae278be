"""LoRA fine-tuning of PixArt: pictures -> encodings -> trainer -> adapter; the scripts call it, and copy nothing."""
