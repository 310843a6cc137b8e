"""The machine: what steps one handler, synchronously and without I/O, from what its history holds.

``execution`` is the door; ``loop/`` is the event loop that the handler sees. Nothing is imported here: who wants a
command's class does not load the loop.
"""
