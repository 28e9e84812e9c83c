"""The endpoints of documents 002 (ArcGIS), 003 (Pieces) and 004 (ECLYPSE), as clients of theirs know them."""
