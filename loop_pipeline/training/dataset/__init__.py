"""What a student learns from: which rows, on which side, and why others were left out."""
