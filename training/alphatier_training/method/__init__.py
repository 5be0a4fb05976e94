"""The paper's method as pure functions of one prompt's group, and in the shapes that TRL calls."""
