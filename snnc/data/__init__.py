"""Input rows: files, layouts, preprocessing and statistics."""
