"""cohort: read the cohort, audit every file, replace names by pseudonyms."""
