"""The language of phrases: their parts, and phrases that differ in one of them."""
