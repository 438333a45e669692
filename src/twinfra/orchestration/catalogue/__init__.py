"""What providers exist and what they have."""
