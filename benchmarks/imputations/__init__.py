"""Tables and systems of the imputation benchmark."""
