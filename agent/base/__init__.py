"""What every part of the agent uses: errors, clocks, durations, texts. Imports nothing above it."""
