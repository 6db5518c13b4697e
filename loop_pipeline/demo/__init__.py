"""Traffic to turn the loop on: a simulated support desk, and public sets."""
