"""``python -m retrieval_grounding`` is the command ``retrieval-grounding``."""

from .cli import main

main()
