"""Did transfer and adaptation pay: what is fitted for the comparison of encoders, and on which cases."""
