"""The README's commands, run in order as they stand, against a server that was started as it says."""
