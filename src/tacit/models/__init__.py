"""What every room that meets a language model shares: its folder, its chat template, its server."""
