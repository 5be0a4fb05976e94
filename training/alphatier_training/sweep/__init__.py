"""Many runs over one base: variants of a recipe, with several seeds each, in one table."""
