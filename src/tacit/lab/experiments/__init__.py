"""Claims put to the test: each file is an experiment with a function `run`, remade by `tacit lab NAME`."""
