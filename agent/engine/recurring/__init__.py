"""What is done again and again, over restarts and jumps of the clock."""
