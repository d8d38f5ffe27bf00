"""`python -m mmemo` is the same as `mmemo`."""
from .commands.cli import main

if __name__ == '__main__': raise SystemExit(main())
