"""Read the cohort, audit every file and replace names with pseudonyms."""
