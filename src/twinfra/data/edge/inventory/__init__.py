"""What the edge knows of its files, and the numbered log of every change, in one database."""
