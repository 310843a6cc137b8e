"""What the Cloudflare KV host is made of: its log, its bytes, large values, the namespace, the archive."""
