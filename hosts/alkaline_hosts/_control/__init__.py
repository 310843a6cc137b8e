"""The control plane behind ``alkaline_hosts.control``: a client of several servers' HTTP APIs. It keeps nothing."""
