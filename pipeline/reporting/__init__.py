"""How you show it: one page from the tables of the stages."""
