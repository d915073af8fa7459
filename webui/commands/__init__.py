"""The commands of the command line: `python -m webui COMMAND`."""
