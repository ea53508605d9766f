"""``python -m retrieval_grounding`` is the command ``retrieval-grounding``."""

from .cli.app import main

main()
