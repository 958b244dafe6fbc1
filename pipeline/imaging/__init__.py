"""Read, check and prepare images: a library of plain functions on files and arrays."""
