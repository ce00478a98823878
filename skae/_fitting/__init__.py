"""Where training happens: one fit, or several side by side."""
