"""The command line: its commands, the store that they are told of, and what they print."""
