"""What users see and machines parse: every text and file that is made from findings. Knows only the model."""
