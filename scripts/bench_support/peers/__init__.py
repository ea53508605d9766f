"""Search engines that are compared, each a module that runs in an environment of its own."""
