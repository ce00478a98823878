"""Where training happens: problems, their first weights, the trainer and its monitor."""
