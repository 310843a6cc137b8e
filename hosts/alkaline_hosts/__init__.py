"""Hosts: one module per place where histories are kept, and the command line."""
