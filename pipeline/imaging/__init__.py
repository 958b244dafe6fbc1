"""Read, check, prepare and augment images: a library of functions on files and arrays."""
