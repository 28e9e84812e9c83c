"""Archives that wait on the device, and their way to where the backend wants them."""
