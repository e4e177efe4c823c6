"""Where items come from, by technology."""
