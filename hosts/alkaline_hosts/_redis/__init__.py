"""What the Redis host is made of: its scripts, its clients, the settings of a server, its subscription."""
