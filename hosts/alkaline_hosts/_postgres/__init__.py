"""What the Postgres host is made of: its SQL, its clients, its views."""
