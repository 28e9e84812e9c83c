"""Coverage-guided fuzzers of all that reads bytes from elsewhere: `make fuzz`."""
