"""Fine-tuning the models themselves: image files and expressions → new weights."""
