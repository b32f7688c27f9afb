"""`python -m agent` is the `vigie` command."""

from agent.cli import main

main()
