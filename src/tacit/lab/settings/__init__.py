"""Every row of the survey's Table 3 as a learner on small worlds, batched over seeds, with what it is given."""
