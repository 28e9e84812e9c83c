"""Jobs, uploads and the schedule, whoever asks for them and whoever is told; knows no face of the agent."""
