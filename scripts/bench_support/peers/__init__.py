"""Search engines that are compared, each a module that runs in a separate environment."""
