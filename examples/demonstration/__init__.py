"""The parts of the demo: processes that are killed, what the store and the effects log prove, and how it is shown."""
