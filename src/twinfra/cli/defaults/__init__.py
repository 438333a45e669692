"""What a fresh home begins with."""
