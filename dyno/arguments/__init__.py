"""The arguments, help and examples of each command; what it does is in `dyno/commands`."""
