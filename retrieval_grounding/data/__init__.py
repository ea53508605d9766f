"""Reading input: image files and files of referring expressions."""
