"""The built-in problems: sums of five levels, responses that think too much, a small vocabulary."""
