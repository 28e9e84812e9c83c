"""The HTTP face: an API over the table of operations, the documents' own endpoints, and the page."""
