"""Commands that a person calls, one file or folder each."""
