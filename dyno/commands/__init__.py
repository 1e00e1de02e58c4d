"""One file a command, named like the command; `flags` holds their arguments and options."""
