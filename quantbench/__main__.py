"""`python -m quantbench`, which torchrun needs."""

from quantbench.cli.main import main

if __name__ == "__main__":
    main()
