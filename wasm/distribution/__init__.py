"""Builds the Pyodide distribution in ``wasm/dist``; run it as ``python -m distribution`` in ``wasm/``."""
