"""What a person calls by hand: import, plan, predict, whois."""
