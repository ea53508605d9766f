"""Fine-tuning a YOLO detector on boxes of referred objects."""
