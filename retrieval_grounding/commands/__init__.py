"""Groups of commands, registered by `retrieval_grounding.cli`."""
