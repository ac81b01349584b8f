"""The command line: one file per command or small group; heavy imports inside the commands."""
