"""What comes from outside: image files and files of referring expressions."""
