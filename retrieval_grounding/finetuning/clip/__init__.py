"""Fine-tuning a CLIP model on regions and what people call them."""
