"""What a recipe will cost and how it is launched: `alphatier train --dry-run`. No torch, nothing written."""
