"""The commands that pick a framework by what they are given. Nothing imports this floor."""
