"""What happens to the files: selecting, archiving, transferring, restoring. Knows nothing of messages."""
