"""A reward from good examples alone: divergences between a demonstrator and a policy."""
