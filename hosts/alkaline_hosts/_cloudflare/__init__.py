"""What the hosts in a Cloudflare Worker share: the platform, SQLite's batches, requests."""
