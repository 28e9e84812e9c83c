"""What somebody may want to know: what runs, what was, what would be, and whether all is well."""
