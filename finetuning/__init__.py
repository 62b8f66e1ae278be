"""LoRA fine-tuning of PixArt: images -> encodings -> trainer -> LoRA; the scripts call it, and copy nothing."""
