"""One file for each command, or group of commands. Heavy imports happen inside the commands."""
