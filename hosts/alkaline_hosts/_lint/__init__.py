"""What a handler may not do, found in its source before it runs."""
