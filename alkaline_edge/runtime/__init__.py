"""The one async part of the kernel: a thin runtime around the machine.

The package imports nothing itself: each module of it is loaded by what needs that.
"""
