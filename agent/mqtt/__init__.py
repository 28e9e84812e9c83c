"""What goes over the wire. Knows nothing of files."""
