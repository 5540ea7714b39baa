"""Speed, side by side with what a user would use instead: each file is a suite with a function `run`."""
