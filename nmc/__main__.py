"""``python -m nmc`` is the command line."""

from nmc.compiler.cli.main import main

if __name__ == "__main__":
    main()
