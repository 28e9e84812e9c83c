"""The API below `/api/v1`: each path asks one operation, or reads what the engine shows."""
