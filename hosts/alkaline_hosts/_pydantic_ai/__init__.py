"""What ``alkaline_hosts.pydantic_ai`` is made of: units as steps, errors that come back, waits, and the time."""
