"""Values, errors and helpers that every other room uses; imports none of them."""
