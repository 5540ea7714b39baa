"""Language models that answer: sampling, and the log-probabilities that tuning needs."""
