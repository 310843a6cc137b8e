"""The handler's event loop: deterministic over recorded time, and refusing by name what a replay could not repeat.

``loop`` is the loop itself, the rest what it is made of. Nothing is imported here.
"""
