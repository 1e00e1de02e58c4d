"""One file a command, of the name of the command."""
