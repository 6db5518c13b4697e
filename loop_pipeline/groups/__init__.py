"""Task groups: which requests are alike, under names and ids that survive refits."""
