"""The file host's log: its bytes, its index, its lock. Import nothing here: a host loads what it uses."""
