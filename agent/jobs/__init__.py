"""The engine: jobs, uploads and the schedule. It knows no face of the agent."""
