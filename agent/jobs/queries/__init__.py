"""Questions: the running job, the history, a coming backup, the health of the device."""
